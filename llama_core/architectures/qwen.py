"""Qwen 2 and 2.5 (arXiv:2407.10671): biases on q, k and v. Qwen 3 (arXiv:2505.09388): norms of q and k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys

# config.json need not name these; the defaults of the published configurations.
DEFAULT_WINDOW, DEFAULT_FULL_LAYERS = 4096, 28


def _window(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The window of config.json: off unless asked for, and then in the layers from max_window_layers on. No
    GGUF file has one."""
    if not keys.boolean("use_sliding_window", False):
        return {}
    found = decoder.window(keys, "sliding_window", fields) or {"sliding_window": DEFAULT_WINDOW}
    full = keys.integer("max_window_layers", DEFAULT_FULL_LAYERS)
    layers = decoder.window_layers(keys, fields) or tuple(i >= full for i in range(fields["n_layers"]))
    return found | {"window_layers": layers} if any(layers) else {}


def _with_norms(_keys: Keys, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True}


def _with_norms_and_window(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"qk_norm": True, **_window(keys, fields)}


QWEN2 = Architecture(
    name="qwen2",
    gguf=("qwen2",),
    huggingface=("qwen2",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    from_huggingface=_window,
)

QWEN3 = Architecture(
    name="qwen3",
    gguf=("qwen3",),
    huggingface=("qwen3",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    from_gguf=_with_norms,
    from_huggingface=_with_norms_and_window,
)
