"""SmolLM3 (Hugging Face, 2025): Llama whose every fourth layer has no positions (arXiv:2501.18795).

SmolLM 1 and 2 are llamas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Keys

INTERVAL = 4


def _from_gguf(_keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    # GGUF has no key for it: llama.cpp knows the interval, too.
    return {"rope_layers": decoder.all_but_every(fields["n_layers"], INTERVAL)}


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """`no_rope_layers` says 1 where a layer has positions."""
    n_layers = fields["n_layers"]
    if keys.has("no_rope_layers"):
        layers = tuple(bool(one) for one in keys.items("no_rope_layers")[:n_layers])
    else:
        layers = decoder.all_but_every(n_layers, keys.integer("no_rope_layer_interval", INTERVAL))
    keys.has("no_rope_layer_interval")  # which the list beats
    if not keys.boolean("use_sliding_window", False):
        return {"rope_layers": layers}
    windowed = decoder.window_layers(keys, fields) or tuple(not one for one in layers)
    return {
        "rope_layers": layers,
        "window_layers": windowed,
        **decoder.window(keys, "sliding_window", fields),
    }


SMOLLM3 = Architecture(
    name="smollm3",
    gguf=("smollm3",),
    huggingface=("smollm3",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    defaults={"rope_theta": 2e6, "tie_embeddings": True},
)
