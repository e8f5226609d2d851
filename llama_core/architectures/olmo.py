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
        return replace(decoder.layer(config, i), mixer=attention, norm_before=False, norm_after=True)

    return decoder.with_layers(config, layer)


def _unscaled(windows: Mapping[str, Any], fields: Mapping[str, Any]) -> Mapping[str, Any]:
    scaled = windows["sliding_window"] and fields["rope_scaling"]
    return {"window_rope_theta": fields["rope_theta"]} if scaled else {}


def _from_gguf(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = decoder.gguf_windows(keys, fields, PERIOD)
    # llama.cpp scales no windowed layer either; GGUF says nothing of it.
    own = _unscaled(found, fields)
    return {"qk_norm": True, **found, **own}


def _from_huggingface(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = decoder.windows(keys, fields, PERIOD)
    own = _unscaled(found, fields)
    return {"qk_norm": True, **found, **own}


OLMO2 = Architecture(
    name="olmo2",
    gguf=("olmo2",),
    huggingface=("olmo2",),
    describe=_describe,
    tensors=partial(decoder.tensors, names=decoder.Names(norms=decoder.AFTER, qk_norm="width")),
    from_gguf=_from_gguf,
    from_huggingface=_from_huggingface,
    to_gguf=decoder.to_gguf_windows,
    defaults={"norm_eps": 1e-5},
)

# In GGUF an OLMo 3 is an olmo2 with windows.
OLMO3 = replace(
    OLMO2,
    name="olmo3",
    gguf=(),
    huggingface=("olmo3",),
    gguf_name=lambda _config: "olmo2",
    defaults={"norm_eps": 1e-5, "rope_theta": 5e5, "sliding_window": 4096},
)
