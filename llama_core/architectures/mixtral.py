"""Mixtral (arXiv:2401.04088): Mistral with experts. In GGUF it is a llama with experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return decoder.window(keys, "sliding_window", fields)


MIXTRAL = Architecture(
    name="mixtral",
    gguf=(),
    huggingface=("mixtral",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    keys=decoder.EXPERT_KEYS,
    defaults={"norm_eps": 1e-5, "rope_theta": 1e6},
    from_huggingface=_from_huggingface,
    gguf_name=lambda _config: "llama",
)
