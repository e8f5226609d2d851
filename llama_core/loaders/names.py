"""Foreign tensor names to ours, the check against the config's shapes, and the order of RoPE's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.checkpoint import Tensor, tensor_shapes
from llama_core.checkpoint import layer_part as layer_part
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import quoted

GGUF_GLOBAL = {
    "token_embd.weight": "embed_tokens",
    "output_norm.weight": "norm",
    "output.weight": "lm_head",
    "rope_freqs.weight": "rope_freqs",
}
GGUF_LAYER = {
    "attn_norm.weight": "input_layernorm",
    "attn_q.weight": "q_proj",
    "attn_k.weight": "k_proj",
    "attn_v.weight": "v_proj",
    "attn_q.bias": "q_proj.bias",
    "attn_k.bias": "k_proj.bias",
    "attn_v.bias": "v_proj.bias",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "attn_output.weight": "o_proj",
    "attn_output.bias": "o_proj.bias",
    "ffn_norm.weight": "post_attention_layernorm",
    "ffn_gate.weight": "gate_proj",
    "ffn_up.weight": "up_proj",
    "ffn_down.weight": "down_proj",
    "ffn_gate.bias": "gate_proj.bias",
    "ffn_up.bias": "up_proj.bias",
    "ffn_down.bias": "down_proj.bias",
}
HF_GLOBAL = {
    "model.embed_tokens.weight": "embed_tokens",
    "model.norm.weight": "norm",
    "lm_head.weight": "lm_head",
}
HF_LAYER = {
    "input_layernorm.weight": "input_layernorm",
    "self_attn.q_proj.weight": "q_proj",
    "self_attn.k_proj.weight": "k_proj",
    "self_attn.v_proj.weight": "v_proj",
    "self_attn.q_proj.bias": "q_proj.bias",
    "self_attn.k_proj.bias": "k_proj.bias",
    "self_attn.v_proj.bias": "v_proj.bias",
    "self_attn.q_norm.weight": "q_norm",
    "self_attn.k_norm.weight": "k_norm",
    "self_attn.o_proj.weight": "o_proj",
    "self_attn.o_proj.bias": "o_proj.bias",
    "post_attention_layernorm.weight": "post_attention_layernorm",
    "mlp.gate_proj.weight": "gate_proj",
    "mlp.up_proj.weight": "up_proj",
    "mlp.down_proj.weight": "down_proj",
    "mlp.gate_proj.bias": "gate_proj.bias",
    "mlp.up_proj.bias": "up_proj.bias",
    "mlp.down_proj.bias": "down_proj.bias",
}


def gguf_names(n_layers: int) -> dict[str, str]:
    """GGUF's name -> ours, for a model of `n_layers`."""
    return GGUF_GLOBAL | {
        f"blk.{i}.{theirs}": f"layers.{i}.{ours}"
        for i in range(n_layers)
        for theirs, ours in GGUF_LAYER.items()
    }


def hf_names(n_layers: int) -> dict[str, str]:
    """Hugging Face's name -> ours, for a model of `n_layers`."""
    return HF_GLOBAL | {
        f"model.layers.{i}.{theirs}": f"layers.{i}.{ours}"
        for i in range(n_layers)
        for theirs, ours in HF_LAYER.items()
    }


def check_tensors(path: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Hold every tensor against the config once, so that nothing behind the loader has to.

    Raises ModelFormatError for a missing tensor or a wrong shape, UnsupportedModelError for a tensor that
    this engine would silently leave out of the computation.
    """
    wanted = dict(tensor_shapes(config, tensors))
    for name, shape in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelFormatError(path, f"tensor {name}", f"is missing; the config asks for shape {shape}")
        if tensor.shape != shape:
            raise ModelFormatError(
                path,
                f"tensor {quoted(tensor.name)}",
                f"has shape {tensor.shape}, the config asks for {shape}",
            )
    for name, tensor in tensors.items():
        if name not in wanted:
            refuse_tensor(path, tensor.name, config.architecture)


def refuse_tensor(path: Path, name: str, architecture: str) -> None:
    """Raise UnsupportedModelError for a tensor that has no place in the model."""
    raise UnsupportedModelError(
        path,
        f"tensor {quoted(name)}",
        f"has no place in a {architecture} model as this engine runs it; "
        "dense llama, mistral, qwen2 and qwen3 models would work",
    )


def interleaved_rows(n_heads: int, head_dim: int, n_rotated: int) -> NDArray[np.intp]:
    """Where our rows stand in a file whose RoPE pairs rows 2j and 2j + 1 of a head.

    Ours pairs j with j + n_rotated / 2, so our row j of a head is the file's 2j, our j + n_rotated / 2 the
    file's 2j + 1; rows beyond `n_rotated` are not rotated and stay. q and k are permuted alike, which leaves
    their dot product as it is. Returns (n_heads * head_dim,).
    """
    head = np.arange(head_dim, dtype=np.intp)
    head[:n_rotated] = head[:n_rotated].reshape(-1, 2).T.reshape(-1)
    return (np.arange(n_heads, dtype=np.intp)[:, None] * head_dim + head).reshape(-1)


def rope_row_orders(config: ModelConfig) -> dict[str, NDArray[np.intp]]:
    """Row orders by the last part of our names, for files that pair 2j with 2j + 1."""
    q = interleaved_rows(config.n_heads, config.head_dim, config.n_rotated)
    k = interleaved_rows(config.n_kv_heads, config.head_dim, config.n_rotated)
    return {"q_proj": q, "q_proj.bias": q, "k_proj": k, "k_proj.bias": k}


def in_our_row_order(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a file that pairs 2j with 2j + 1, q and k in our order.

    Their shapes must have been checked: the orders are as long as the config says.
    """
    orders = rope_row_orders(config)
    return {name: replace(tensor, row_order=orders.get(layer_part(name))) for name, tensor in tensors.items()}
