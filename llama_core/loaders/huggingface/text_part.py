"""Folders of models that also see or hear: the part that reads and writes text.

Their config.json has the numbers of the text model under `text_config`. The text model's tensors stand below
a prefix of their own; what stands elsewhere belongs to the other parts (an encoder of pictures, what fits its
output to the text model), is not needed for text, and is left out with a note. The head may stand above.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llama_core.architectures import find
from llama_core.loaders.cursor import quoted
from llama_core.loaders.json_files import Fields

KEY = "text_config"
HEAD = "lm_head.weight"
# Of the text model's tensors, the longer ones first, and what they stand for.
PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.text_model.", "model."),
    ("text_model.", "model."),
    ("lm_head.", "lm_head."),
)
MOST_NAMED = 4

_log = logging.getLogger(__name__)


def has_text_part(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a model of several parts, one of which is for text."""
    return KEY in values and find("huggingface", str(values.get("model_type"))) is None


def text_names(path: Path, stored: Iterable[str]) -> dict[str, str]:
    """The text model's tensors: names as in a folder of text alone -> names as stored, and a note of the
    rest. path: of the folder. Where no tensor stands below a prefix, all are the text model's."""
    names, others = {}, []
    for name in stored:
        known = next((pair for pair in PREFIXES if name.startswith(pair[0])), None)
        if known is None:
            others.append(name)
        else:
            names[known[1] + name.removeprefix(known[0])] = name
    if not any(name.startswith("model.") for name in names):
        return {name: name for name in (*others, *names.values())}
    if others:
        parts = list(dict.fromkeys(_part(name) for name in others))
        named = ", ".join(map(quoted, parts[:MOST_NAMED])) + (", ..." if len(parts) > MOST_NAMED else "")
        _log.warning("%s: only the text is read; %d tensors of %s are left out", path, len(others), named)
    return names


def _part(name: str) -> str:
    """What a tensor is a part of, by the beginning of its name."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "model" and len(rest) > 1 else first


def text_values(path: Path, values: dict[str, Any], *, has_head: bool) -> dict[str, Any]:
    """What a config.json of the text model alone would say. Which of the two configs speaks of a tied head
    differs; a missing head is tied whatever they say. Raises ModelFormatError where it is no object."""
    table = Fields(path, values).table(KEY)
    own = {} if table is None else dict(table.values)
    if "quantization_config" in values:
        own.setdefault("quantization_config", values["quantization_config"])
    tied = own.get("tie_word_embeddings") is True or values.get("tie_word_embeddings") is True
    return own | {"tie_word_embeddings": tied or not has_head}
