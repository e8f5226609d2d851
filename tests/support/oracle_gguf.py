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
}
# Whose converters turn q and k so that RoPE pairs rows 2j and 2j + 1.
PERMUTED = {"llama", "mistral3", "granite", "granitemoe", "smollm3"}


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
        if arch.startswith("gemma") and theirs.endswith("norm.weight"):
            value = value + np.float32(1)
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
    return found


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
    for key, value in keys(arch, config).items():
        name = f"{arch}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_string(name, value)
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
