"""A Hugging Face folder as the GGUF file that llama.cpp's converters would make of it.

Names come from the `gguf` package's own map, the layouts and keys from the converters' description; nothing
of the loaders under test is used.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.support.model_files import add_metadata

F32 = NDArray[np.float32]

# model_type -> llama.cpp's architecture.
ARCHITECTURES = {
    "mistral": "llama",
    "mixtral": "llama",
    "ministral3": "mistral3",
    "qwen3_moe": "qwen3moe",
    "olmo3": "olmo2",
    "hunyuan_v1_dense": "hunyuan-dense",
    "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss",
    "qwen3_5_text": "qwen35",
    "granitemoehybrid": "granitehybrid",
}
# Whose converters turn q and k so that RoPE pairs rows 2j and 2j + 1.
PERMUTED = {"llama", "mistral3", "granite", "granitemoe", "granitehybrid", "smollm3"}


def read_safetensors(path: Path) -> dict[str, F32]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return found


def permuted(weight: F32, n_heads: int) -> F32:
    """Rows j and j + half of each head to 2j and 2j + 1."""
    halves = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def heads_by_turns(value: F32, groups: int, n: int, size: int, axis: int = 0) -> F32:
    """The last n * size of an axis, heads of one group after the other, as heads of all groups by turns."""
    value = value.swapaxes(0, axis)
    first = len(value) - n * size
    heads = value[first:].reshape(groups, n // groups, size, *value.shape[1:]).swapaxes(0, 1)
    return np.concatenate((value[:first], heads.reshape(n * size, *value.shape[1:]))).swapaxes(0, axis)


def of_state(arch: str, config: dict[str, Any], name: str, value: F32) -> tuple[str, F32]:
    """Name and value, as the converters make them, of a tensor of layers with a state."""
    if arch == "qwen35" and ".linear_attn." in name:
        size = (
            1
            if name.endswith(("_a.weight", "_b.weight", "A_log", "dt_bias"))
            else config["linear_value_head_dim"]
        )
        if not name.endswith(".norm.weight"):
            groups, n = config["linear_num_key_heads"], config["linear_num_value_heads"]
            value = heads_by_turns(value, groups, n, size, axis=int("out_proj" in name))
    if name.endswith("A_log"):
        value = -np.exp(value)
    if "conv1d.weight" in name or "conv.conv.weight" in name:
        value = value.squeeze(1)
    if arch == "granitehybrid":
        if name.endswith((".A_log", ".D")):
            value = value[:, None]
        elif name.endswith("mamba.norm.weight"):
            value = value.reshape(config["mamba_n_groups"], -1)
    return name.replace(".dt_bias", ".dt_proj.bias"), value


def converted(arch: str, config: dict[str, Any], tensors: dict[str, F32]) -> dict[str, F32]:
    """The tensors by GGUF's names, in GGUF's layout."""
    n_layers, n_heads = config["num_hidden_layers"], config["num_attention_heads"]
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[arch], n_layers)
    found: dict[str, F32] = {}
    experts: dict[str, list[F32]] = {}

    def put(theirs: str, value: F32) -> None:
        name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        assert name is not None, theirs
        found[name] = np.ascontiguousarray(value, dtype=np.float32)

    for theirs, value in tensors.items():
        less_one = arch.startswith("gemma") or (arch == "qwen35" and ".linear_attn." not in theirs)
        if less_one and theirs.endswith("norm.weight"):
            value = value + np.float32(1)
        theirs, value = of_state(arch, config, theirs, value)
        if arch in PERMUTED and ".q_proj." in theirs:
            value = permuted(value, n_heads)
        if arch in PERMUTED and ".k_proj." in theirs:
            value = permuted(value, config["num_key_value_heads"])
        layer = theirs.split(".")[2] if theirs.startswith("model.layers.") else ""
        part = theirs.rsplit(".", 2)[-2]
        if ".experts." in theirs and theirs.split(".experts.")[1].split(".")[0].isdigit():
            kind = {"w1": "gate", "w2": "down", "w3": "up"}.get(part, part.removesuffix("_proj"))
            experts.setdefault(f"blk.{layer}.ffn_{kind}_exps.weight", []).append(value)
        elif theirs.endswith("block_sparse_moe.input_linear.weight"):
            found[f"blk.{layer}.ffn_gate_exps.weight"], found[f"blk.{layer}.ffn_up_exps.weight"] = (
                np.ascontiguousarray(half) for half in np.split(value, 2, axis=1)
            )
        elif theirs.endswith("shared_mlp.input_linear.weight"):
            found[f"blk.{layer}.ffn_gate.weight"], found[f"blk.{layer}.ffn_up.weight"] = np.split(value, 2)
        elif theirs.endswith("shared_mlp.output_linear.weight"):
            found[f"blk.{layer}.ffn_down.weight"] = value
        elif theirs == "model.embedding_norm.weight":
            found["token_embd_norm.weight"] = value
        elif theirs.endswith("self_attn.sinks"):
            found[f"blk.{layer}.attn_sinks.weight"] = value
        elif ".mlp.experts." in theirs:  # gpt-oss
            suffix = "bias" if theirs.endswith("_bias") else "weight"
            value = value if suffix == "bias" else value.swapaxes(1, 2)
            gate_up = {"gate": value[:, 0::2], "up": value[:, 1::2]}
            parts = gate_up if "gate_up" in theirs else {"down": value}
            for kind, own in parts.items():
                found[f"blk.{layer}.ffn_{kind}_exps.{suffix}"] = np.ascontiguousarray(own)
        else:
            put(theirs, value)
    return found | {name: np.stack(values) for name, values in experts.items()}


def keys(arch: str, config: dict[str, Any]) -> dict[str, Any]:
    """The metadata below the architecture's prefix."""
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config["rope_parameters"]
    windowed = rope.get("sliding_attention", {})
    rope = rope.get("full_attention", rope)
    found: dict[str, Any] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        "vocab_size": config["vocab_size"],
    }
    if rope["rope_type"] == "yarn":
        found |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": rope["factor"],
            "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
            "rope.scaling.yarn_beta_fast": rope["beta_fast"],
            "rope.scaling.yarn_beta_slow": rope["beta_slow"],
        }
    if "mscale_all_dim" in rope:
        found |= {
            "rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"],
            "attention.temperature_scale": rope["llama_4_scaling_beta"],
        }
    if rope["rope_type"] == "longrope":
        length, trained = config["max_position_embeddings"], rope["original_max_position_embeddings"]
        found |= {
            "rope.scaling.original_context_length": trained,
            "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(length / trained) / np.log(trained))),
        }
    if windowed and windowed["rope_theta"] != rope["rope_theta"]:
        found["rope.freq_base_swa"] = float(windowed["rope_theta"])
    if config.get("sliding_window") and arch != "llama":
        found["attention.sliding_window"] = config["sliding_window"]
    if arch == "olmo2" and config.get("sliding_window"):
        found["attention.sliding_window_pattern"] = [kind[0] == "s" for kind in config["layer_types"]]
    for key, name in (
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("attention_multiplier", "attention.scale"),
        ("logits_scaling", "logit_scale"),
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("num_local_experts", "expert_count"),
        ("num_experts_per_tok", "expert_used_count"),
        ("moe_intermediate_size", "expert_feed_forward_length"),
    ):
        if config.get(key):
            found[name] = config[key]
    return found | of_states(arch, config)


def of_states(arch: str, config: dict[str, Any]) -> dict[str, Any]:
    """The keys of layers with a state."""
    kinds, kv_heads = config.get("layer_types", []), config["num_key_value_heads"]
    by_layer = [kv_heads if kind == "full_attention" else 0 for kind in kinds]
    if arch == "lfm2":
        return {"shortconv.l_cache": config["conv_L_cache"], "attention.head_count_kv": by_layer}
    if arch == "qwen35":
        return {
            **ssm(
                config["linear_conv_kernel_dim"],
                config["linear_key_head_dim"],
                config["linear_num_key_heads"],
                config["linear_num_value_heads"],
                config["linear_value_head_dim"] * config["linear_num_value_heads"],
            ),
            "full_attention_interval": kinds.index("full_attention") + 1,
            "rope.dimension_sections": [11, 11, 10, 0],
        }
    if arch == "granitehybrid":
        return {
            **ssm(
                config["mamba_d_conv"],
                config["mamba_d_state"],
                config["mamba_n_groups"],
                config["mamba_n_heads"],
                config["mamba_expand"] * config["hidden_size"],
            ),
            "attention.head_count_kv": by_layer,
            "rope.scaling.finetuned": False,
            "context_length": 1 << 20,
        }
    return {}


def ssm(conv_kernel: int, state_size: int, groups: int, rank: int, inner_size: int) -> dict[str, Any]:
    """The keys that all layers with a state share, however their configs name them."""
    return {
        "ssm.conv_kernel": conv_kernel,
        "ssm.state_size": state_size,
        "ssm.group_count": groups,
        "ssm.time_step_rank": rank,
        "ssm.inner_size": inner_size,
    }


def rope_tensors(config: dict[str, Any]) -> dict[str, F32]:
    """What the converters work into tensors: llama3's divisors, LongRoPE's factors."""
    rope = config["rope_parameters"]
    if rope.get("rope_type") == "longrope":
        return {
            f"rope_factors_{name}.weight": np.array(rope[f"{name}_factor"], np.float32)
            for name in ("long", "short")
        }
    if rope.get("rope_type") != "llama3":
        return {}
    half = config["head_dim"] // 2
    base = rope["rope_theta"] ** (-np.arange(half) / half)
    wavelength, trained = 2 * np.pi / base, rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = np.clip((trained / wavelength - low) / (high - low), 0, 1)
    return {"rope_freqs.weight": (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)}


def write(folder: Path, path: Path) -> Path:
    """The GGUF file of the model in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    arch = ARCHITECTURES.get(config["model_type"], config["model_type"])
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [f"<|spare {i}|>" for i in range(len(tokens), config["vocab_size"])]
    writer = gguf.GGUFWriter(path, arch)
    add_metadata(writer, {f"{arch}.{key}": value for key, value in keys(arch, config).items()})
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "gpt-2")
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.token_type", [1] * len(tokens))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    writer.add_array("tokenizer.ggml.merges", merges)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 0)
    tensors = converted(arch, config, read_safetensors(folder / "model.safetensors")) | rope_tensors(config)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
