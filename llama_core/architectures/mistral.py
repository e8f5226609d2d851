"""Mistral 7B (arXiv:2310.06825): Llama with a window of attention. Ministral 3: without, and with queries
that grow behind the trained context."""

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
    defaults={"sliding_window": 4096},
)


def _temperature_from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    beta = keys.number("attention.temperature_scale", 0.0)
    return _temperature(beta, fields)


def _temperature_from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    beta = keys.number("rope_parameters.llama_4_scaling_beta", 0.0)
    return decoder.window(keys, "sliding_window", fields) | _temperature(beta, fields)


def _temperature(beta: float, fields: Mapping[str, Any]) -> dict[str, Any]:
    scaling = fields["rope_scaling"]
    length = fields["max_seq_len"] if scaling is None else scaling.original_max_seq_len
    return {"temperature_beta": beta, "temperature_length": length} if beta else {}


def _temperature_to_gguf(config: ModelConfig) -> Mapping[str, Any]:
    return {"attention.temperature_scale": config.temperature_beta} if config.temperature_beta else {}


MINISTRAL3 = Architecture(
    name="mistral3",
    gguf=("mistral3",),
    huggingface=("ministral3",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    from_gguf=_temperature_from_gguf,
    from_huggingface=_temperature_from_huggingface,
    to_gguf=_temperature_to_gguf,
    defaults={"norm_eps": 1e-5, "head_dim": 128},
)
