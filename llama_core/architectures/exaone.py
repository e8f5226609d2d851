"""EXAONE 4 (arXiv:2507.11407): norms behind the sub-layers, norms of q and k by head; where some layers have
a window, the others have no positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Keys
from llama_core.config import ModelConfig

PERIOD = 4


def _describe(config: ModelConfig) -> Description:
    return decoder.with_layers(
        config, lambda i: replace(decoder.layer(config, i), norm_before=False, norm_after=True)
    )


def _fields(windows: Mapping[str, Any]) -> Mapping[str, Any]:
    positions = {"rope_layers": windows["window_layers"]} if windows["sliding_window"] else {}
    return {"qk_norm": True, **windows, **positions}


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return _fields(decoder.gguf_windows(keys, fields, PERIOD))


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    period = keys.integer("sliding_window_pattern", PERIOD) or PERIOD
    return _fields(decoder.windows(keys, fields, period))


EXAONE4 = Architecture(
    name="exaone4",
    gguf=("exaone4",),
    huggingface=("exaone4",),
    describe=_describe,
    tensors=partial(decoder.tensors, names=decoder.Names(norms=decoder.AFTER)),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=decoder.to_gguf_windows,
    defaults={"norm_eps": 1e-5, "sliding_window": 4096},
)
