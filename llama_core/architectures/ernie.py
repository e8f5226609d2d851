"""ERNIE 4.5, dense (Baidu, 2025): Llama, whose pairs of RoPE are 2j and 2j + 1 in every file."""

from __future__ import annotations

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture

ERNIE4_5 = Architecture(
    name="ernie4_5",
    gguf=("ernie4_5",),
    huggingface=("ernie4_5",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf", "huggingface"}),
    defaults={"norm_eps": 1e-5, "rope_theta": 5e5, "head_dim": 128, "tie_embeddings": True},
)
