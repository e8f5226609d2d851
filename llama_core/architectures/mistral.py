"""Mistral 7B (arXiv:2310.06825): Llama with a window of attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys
from llama_core.config import ModelConfig


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return decoder.window(keys, "attention.sliding_window", fields)


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return decoder.window(keys, "sliding_window", fields)


def _to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    return {"attention.sliding_window": config.sliding_window} if config.sliding_window else {}


def _gguf_name(config: ModelConfig) -> str:
    # llama.cpp knows no "mistral": it would compute a llama, which without a window is the same.
    return "mistral" if config.sliding_window else "llama"


MISTRAL = Architecture(
    name="mistral",
    gguf=("mistral",),
    huggingface=("mistral",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=_to_gguf,
    gguf_name=_gguf_name,
)
