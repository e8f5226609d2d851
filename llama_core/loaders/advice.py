"""How a model's makers say its replies are best drawn: in a GGUF file's metadata, or in a folder's
`generation_config.json`.

Source: the keys `general.sampling.*` of the gguf package, and the documentation of Transformers'
GenerationConfig. What is advised is only advice: values that make no sense are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.loaders.json_files import read_object
from llama_core.loaders.parts import ModelParts
from llama_core.sampling.params import SamplingParams

GGUF_PREFIX = "general.sampling."
GENERATION_CONFIG = "generation_config.json"
# The field of SamplingParams -> its name in GGUF (behind the prefix) and in generation_config.json.
NAMES: Mapping[str, tuple[str, str]] = {
    "temperature": ("temp", "temperature"),
    "top_k": ("top_k", "top_k"),
    "top_p": ("top_p", "top_p"),
    "min_p": ("min_p", "min_p"),
    "typical_p": ("", "typical_p"),
    "repeat_penalty": ("penalty_repeat", "repetition_penalty"),
    "repeat_last_n": ("penalty_last_n", ""),
}
WHOLE = ("top_k", "repeat_last_n")
FULL_PENALTY = -1  # Transformers' penalty looks at all that was said


def sampling_advice(model: ModelParts) -> dict[str, Any]:
    """Values by the fields of `SamplingParams`; empty where the model says nothing."""
    if model.file_format == "gguf":
        found = {field: model.metadata.get(GGUF_PREFIX + gguf) for field, (gguf, _) in NAMES.items() if gguf}
        return _sound(found)
    if model.file_format == "safetensors":
        return _from_config(model.path / GENERATION_CONFIG)
    return {}


def _from_config(path: Path) -> dict[str, Any]:
    try:
        config = read_object(path) if path.is_file() else {}
    except ModelFormatError:  # whoever needs it for the ends of replies tells of it
        return {}
    found = {field: config.get(name) for field, (_, name) in NAMES.items() if name}
    if config.get("do_sample") is False:
        # Numbers beside it are what Transformers would write anyway.
        return {"temperature": 0.0}
    sound = _sound(found)
    return sound | ({"repeat_last_n": FULL_PENALTY} if sound.get("repeat_penalty", 1.0) != 1.0 else {})


def _sound(found: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that `SamplingParams` takes."""
    sound: dict[str, Any] = {}
    for field, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        try:
            number: Any = int(value) if field in WHOLE else float(f"{value:.6g}")  # 0.8, not its float32
            SamplingParams(**dict[str, Any]({field: number}))
        except (ValueError, OverflowError):
            continue
        sound[field] = number
    return sound


def to_gguf(advice: Mapping[str, Any]) -> dict[str, Any]:
    """The same as keys of a GGUF file; what GGUF has no key for is left out."""
    return {GGUF_PREFIX + NAMES[field][0]: value for field, value in advice.items() if NAMES[field][0]}
