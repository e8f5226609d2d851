"""OLMo 2 (arXiv:2501.00656): norms behind the sub-layers, and of q and k over all heads together. OLMo 3: the
same with windows in three layers of four, which keep unscaled positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Description, Keys, Layer
from llama_core.config import ModelConfig

PERIOD = 4


def _describe(config: ModelConfig) -> Description:
    def layer(i: int) -> Layer:
        attention = replace(decoder.attention(config, i), qk_norm="width")
        return replace(decoder.layer(config, i), attention=attention, norm_before=False, norm_after=True)

    return decoder.with_layers(config, layer)


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = decoder.gguf_windows(keys, fields, PERIOD)
    # llama.cpp scales no windowed layer either; GGUF says nothing of it.
    own = {"window_rope_theta": fields["rope_theta"]} if found and fields["rope_scaling"] else {}
    return {"qk_norm": True, **found, **own}


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = decoder.windows(keys, fields, PERIOD)
    own = {"window_rope_theta": fields["rope_theta"]} if found and fields["rope_scaling"] else {}
    return {"qk_norm": True, **found, **own}


# llama.cpp runs both as one.
OLMO2 = Architecture(
    name="olmo2",
    gguf=("olmo2",),
    huggingface=("olmo2", "olmo3"),
    describe=_describe,
    tensors=partial(decoder.tensors, names=decoder.Names(norms=decoder.AFTER, qk_norm="width")),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=decoder.to_gguf_windows,
)
