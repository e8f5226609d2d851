"""One tiny random model written in every format, by writers that share no code with the readers under test.

GGUF is written by the `gguf` package, the others by the few lines below. All weights are in our names and row
order (RoPE pairs j with j + half); each writer brings them into its format's order.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]

GGUF_NAMES = {
    "embed_tokens": "token_embd.weight", "norm": "output_norm.weight", "lm_head": "output.weight",
    "input_layernorm": "attn_norm.weight", "post_attention_layernorm": "ffn_norm.weight",
    "q_proj": "attn_q.weight", "k_proj": "attn_k.weight", "v_proj": "attn_v.weight",
    "o_proj": "attn_output.weight", "gate_proj": "ffn_gate.weight", "up_proj": "ffn_up.weight",
    "down_proj": "ffn_down.weight", "q_proj.bias": "attn_q.bias",
    "k_proj.bias": "attn_k.bias", "v_proj.bias": "attn_v.bias", "o_proj.bias": "attn_output.bias",
    "gate_proj.bias": "ffn_gate.bias", "up_proj.bias": "ffn_up.bias", "down_proj.bias": "ffn_down.bias",
    "q_norm": "attn_q_norm.weight", "k_norm": "attn_k_norm.weight", "rope_freqs": "rope_freqs.weight",
}  # fmt: skip
HF_PARENTS = dict.fromkeys("qkvo", "self_attn") | dict.fromkeys("gud", "mlp")
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}


@dataclass
class TinyModel:
    """A random model. n_heads 8 at dim 64 is what the npz loader knows as the 260K stories model. bias: on q,
    k and v; more_biases: on the other matrices."""

    dim: int = 64
    hidden_dim: int = 96
    n_layers: int = 2
    n_heads: int = 8
    n_kv_heads: int = 4
    head_dim: int = 8
    vocab_size: int = 300
    max_seq_len: int = 64
    norm_eps: float = 1e-5
    tied: bool = True
    bias: bool = False
    more_biases: bool = False
    qk_norm: bool = False
    architecture: str = "llama"
    seed: int = 0
    weights: Weights = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        q_dim, kv_dim = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim

        def matrix(rows: int, columns: int) -> NDArray[np.float32]:
            return rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

        def vector(n: int) -> NDArray[np.float32]:
            return rng.uniform(0.5, 1.5, n).astype(np.float32)

        self.weights = {"embed_tokens": matrix(self.vocab_size, self.dim), "norm": vector(self.dim)}
        for i in range(self.n_layers):
            layer = {
                "input_layernorm": vector(self.dim),
                "post_attention_layernorm": vector(self.dim),
                "q_proj": matrix(q_dim, self.dim),
                "k_proj": matrix(kv_dim, self.dim),
                "v_proj": matrix(kv_dim, self.dim),
                "o_proj": matrix(self.dim, q_dim),
                "gate_proj": matrix(self.hidden_dim, self.dim),
                "up_proj": matrix(self.hidden_dim, self.dim),
                "down_proj": matrix(self.dim, self.hidden_dim),
            }
            if self.bias:
                layer |= {
                    "q_proj.bias": vector(q_dim),
                    "k_proj.bias": vector(kv_dim),
                    "v_proj.bias": vector(kv_dim),
                }
            if self.more_biases:
                layer |= {
                    "o_proj.bias": vector(self.dim),
                    "gate_proj.bias": vector(self.hidden_dim),
                    "up_proj.bias": vector(self.hidden_dim),
                    "down_proj.bias": vector(self.dim),
                }
            if self.qk_norm:
                layer |= {"q_norm": vector(self.head_dim), "k_norm": vector(self.head_dim)}
            self.weights |= {f"layers.{i}.{name}": value for name, value in layer.items()}
        if not self.tied:
            self.weights["lm_head"] = matrix(self.vocab_size, self.dim)

    def interleaved(self, name: str) -> NDArray[np.float32]:
        """The weight with RoPE's rows as files keep them that pair 2j with 2j + 1."""
        weight = self.weights[name]
        if not name.split(".", 2)[-1].startswith(("q_proj", "k_proj")):
            return weight
        halves = weight.reshape(-1, 2, self.head_dim // 2, *weight.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


# --- tokenizers ---


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def byte_level_vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Tokens and merges: two control tokens, 256 bytes, and made-up merges up to `size`."""
    characters = byte_characters()
    tokens = ["<|end|>", "<|start|>", *characters]
    merges: list[str] = []
    letters = [characters[ord(c)] for c in "etaoinshr dlu"]
    for first in letters:
        for second in letters:
            if len(tokens) < size:
                merges.append(f"{first} {second}")
                tokens.append(first + second)
    return tokens, merges


def sentencepiece_vocabulary(size: int) -> list[tuple[bytes, float]]:
    pieces = [(b"<unk>", 0.0), (b"<s>", 0.0), (b"</s>", 0.0)]
    pieces += [(f"<0x{b:02X}>".encode(), 0.0) for b in range(256)]
    texts = [
        b" ",
        *(bytes([c]) for c in b"etaoinshrdlu"),
        b"th",
        b"he",
        b"the",
        b" the",
        b"in",
        b"er",
        b" a",
        b"an",
    ]
    pieces += [(text, -float(rank)) for rank, text in enumerate(texts)]
    pieces += [(f"filler{n}".encode(), -1000.0 - n) for n in range(size - len(pieces))]
    return pieces[:size]


def write_tokenizer_bin(path: Path, size: int) -> Path:
    pieces = sentencepiece_vocabulary(size)
    body = b"".join(struct.pack("<fi", score, len(text)) + text for text, score in pieces)
    path.write_bytes(struct.pack("<i", max(len(text) for text, _ in pieces)) + body)
    return path


def write_tokenizer_np(path: Path, size: int) -> Path:
    pieces = sentencepiece_vocabulary(size)
    tokens = [text.decode() for text, _ in pieces]
    path.write_text(json.dumps({"tokens": tokens, "scores": [score for _, score in pieces]}))
    return path


def write_tokenizer_json(path: Path, size: int) -> Path:
    tokens, merges = byte_level_vocabulary(size)
    special = [
        {"id": i, "content": tokens[i], "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for i in range(2)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges,
        },
    }  # fmt: skip
    path.write_text(json.dumps(content))
    path.with_name("tokenizer_config.json").write_text(
        json.dumps({"eos_token": tokens[0], "bos_token": tokens[1], "add_bos_token": False})
    )
    return path


# --- model files ---


def gguf_metadata(model: TinyModel) -> dict[str, Any]:
    """Every key a model needs; whole numbers become uint32, floats float32."""
    arch = model.architecture
    tokens, merges = byte_level_vocabulary(model.vocab_size)
    return {
        f"{arch}.block_count": model.n_layers,
        f"{arch}.context_length": model.max_seq_len,
        f"{arch}.embedding_length": model.dim,
        f"{arch}.feed_forward_length": model.hidden_dim,
        f"{arch}.attention.head_count": model.n_heads,
        f"{arch}.attention.head_count_kv": model.n_kv_heads,
        f"{arch}.attention.key_length": model.head_dim,
        f"{arch}.attention.value_length": model.head_dim,
        f"{arch}.rope.dimension_count": model.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": model.norm_eps,
        f"{arch}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(tokens) - 2),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
    }


def gguf_tensor_names(model: TinyModel) -> dict[str, str]:
    """Our name -> GGUF's."""
    names = {}
    for name in model.weights:
        part = name.split(".", 2)[2] if name.startswith("layers.") else name
        names[name] = GGUF_NAMES[part] if part == name else f"blk.{name.split('.')[1]}.{GGUF_NAMES[part]}"
    return names


def gguf_tensors(
    model: TinyModel, types: dict[str, str], default: str
) -> list[tuple[str, NDArray[Any], str]]:
    """(GGUF name, float32 values in file order, type name); `types` by the last part of our names."""
    tensors = []
    for name, theirs in gguf_tensor_names(model).items():
        value = model.weights[name]
        part = name.split(".", 2)[2] if name.startswith("layers.") else name
        stored = model.interleaved(name) if model.architecture in ("llama", "mistral") else value
        tensors.append((theirs, stored, types.get(part, default) if value.ndim == 2 else "F32"))
    return tensors


def halves(stored: NDArray[np.float32], name: str, head_dim: int) -> NDArray[np.float32]:
    """Back from pairs 2j and 2j + 1: the reverse of `TinyModel.interleaved`."""
    if not name.split(".", 2)[-1].startswith(("q_proj", "k_proj")):
        return stored
    pairs = stored.reshape(-1, head_dim // 2, 2, *stored.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(stored.shape)


def add_metadata(writer: gguf.GGUFWriter, metadata: dict[str, Any]) -> None:
    """Each value as the type that it has in Python, ints as uint32; None is left out."""
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)


def write_gguf(
    path: Path,
    model: TinyModel,
    default: str = "F32",
    types: dict[str, str] | None = None,
    extra: dict[str, Any] | None = None,
    extra_tensors: dict[str, NDArray[Any]] | None = None,
) -> Path:
    """`extra` is added to (or, where None, taken from) the metadata."""
    arch = (extra or {}).get("general.architecture", model.architecture)
    writer = gguf.GGUFWriter(path, arch if isinstance(arch, str) else model.architecture)
    add_metadata(writer, gguf_metadata(model) | (extra or {}))
    for name, value, type_name in gguf_tensors(model, types or {}, default):
        kind = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
    for name, value in (extra_tensors or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def hf_name(name: str) -> str:
    if name in ("embed_tokens", "norm"):
        return f"model.{name}.weight"
    if name == "lm_head":
        return "lm_head.weight"
    _, layer, part = name.split(".", 2)
    parent = "" if part.endswith("layernorm") else f"{HF_PARENTS[part[0]]}."
    suffix = "" if part.endswith(".bias") else ".weight"
    return f"model.layers.{layer}.{parent}{part}{suffix}"


def safetensors_bytes(tensors: dict[str, tuple[str, NDArray[Any]]]) -> bytes:
    header, data = {}, b""
    for name, (dtype, value) in tensors.items():
        stored = value.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": value.shape,
            "data_offsets": [len(data), len(data) + len(stored)],
        }
        data += stored
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def to_dtype(value: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return gguf.quantize(value, gguf.GGMLQuantizationType.BF16).view(np.uint16).reshape(value.shape)
    return value.astype({"F32": np.float32, "F16": np.float16}[dtype])


def hf_config(model: TinyModel) -> dict[str, Any]:
    return {
        "model_type": model.architecture, "hidden_size": model.dim, "intermediate_size": model.hidden_dim,
        "num_hidden_layers": model.n_layers, "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads, "head_dim": model.head_dim, "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_seq_len, "rms_norm_eps": model.norm_eps, "rope_theta": 10000.0,
        "tie_word_embeddings": model.tied, "hidden_act": "silu",
    }  # fmt: skip


def write_hf_folder(
    folder: Path, model: TinyModel, dtype: str = "F32", shards: int = 1, config: dict[str, Any] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = {k: v for k, v in (hf_config(model) | (config or {})).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(values))
    write_tokenizer_json(folder / "tokenizer.json", model.vocab_size)
    tensors = {hf_name(name): (dtype, to_dtype(value, dtype)) for name, value in model.weights.items()}
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
        return folder
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        weight_map |= dict.fromkeys(part, file)
        (folder / file).write_bytes(safetensors_bytes(part))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def by_kind(model: TinyModel, *kinds: str) -> list[NDArray[np.float32]]:
    return [model.interleaved(f"layers.{i}.{kind}") for kind in kinds for i in range(model.n_layers)]


def write_llama2c(path: Path, model: TinyModel, version: int = 0, group: int = 32) -> Path:
    """Also writes tokenizer.bin beside it."""
    vocab = model.vocab_size if model.tied or version else -model.vocab_size
    sizes = struct.pack(
        "<7i",
        model.dim,
        model.hidden_dim,
        model.n_layers,
        model.n_heads,
        model.n_kv_heads,
        vocab,
        model.max_seq_len,
    )
    w = model.weights
    head = [] if model.tied else [w["lm_head"]]
    attention, feed_forward = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "down_proj", "up_proj")
    if version == 0:
        tables = [np.zeros((model.max_seq_len, model.head_dim // 2), dtype=np.float32)] * 2
        parts = [w["embed_tokens"], *by_kind(model, "input_layernorm", *attention)]
        parts += [*by_kind(model, "post_attention_layernorm", *feed_forward), w["norm"], *tables, *head]
        path.write_bytes(sizes + b"".join(p.tobytes() for p in parts))
    else:
        start = struct.pack("<Ii", 0x616B3432, version) + sizes + struct.pack("<B", model.tied)
        start += struct.pack("<i", group) if version == 2 else b""
        norms = [*by_kind(model, "input_layernorm", "post_attention_layernorm"), w["norm"]]
        matrices = [w["embed_tokens"], *by_kind(model, *attention, *feed_forward), *head]
        stored = matrices if version == 1 else [a for m in matrices for a in int8_groups(m, group)]
        path.write_bytes(start.ljust(256, b"\0") + b"".join(p.tobytes() for p in [*norms, *stored]))
    write_tokenizer_bin(path.with_name("tokenizer.bin"), model.vocab_size)
    return path


def int8_groups(matrix: NDArray[np.float32], group: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    rows = matrix.reshape(-1, group)
    scales = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
    return np.round(rows / scales[:, None]).astype(np.int8), scales


def write_npz(path: Path, model: TinyModel, *, compressed: bool = False) -> Path:
    """Also writes tokenizer.model.np beside it. llama3.np always has its own head."""
    arrays = {hf_name(name): model.interleaved(name) for name in model.weights}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    write_tokenizer_np(path.with_name("tokenizer.model.np"), model.vocab_size)
    return path
