"""What a GGUF file says of itself, for a list of many: family, size and type, without its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.loaders.gguf.header import read_head, read_header
from llama_core.loaders.gguf.shard_names import SIZE_IN_NAME, TYPE_IN_NAME, find_in

# `general.file_type` by number, as llama.cpp's `llama_ftype` has them.
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class About:
    """family: as `general.architecture`; size: such as "1.7B"; type: such as "Q4_K_M". Empty: not told."""

    family: str = ""
    size: str = ""
    type: str = ""


def about_gguf(path: Path, names: Iterable[str] = ()) -> About:
    """What the file at `path` says, and where it does not, what `names` (the file's or others) say.

    The whole header is read only where neither tells; writers that change a file's type put the new one
    behind the tokenizer. Raises as `read_header`.
    """
    head = read_head(path)
    family = _text(head, "general.architecture")
    texts = [path.name, *names, _text(head, "general.name")]
    size = _text(head, "general.size_label") or find_in(SIZE_IN_NAME, texts)
    kind = _file_type(head) or find_in(TYPE_IN_NAME, texts)
    if size and kind:
        return About(family, size, kind)
    header = read_header(path, skim=True)
    n_values = sum(math.prod(info.shape) for info in header.tensors.values())
    largest = max(header.tensors.values(), key=lambda info: info.nbytes, default=None)
    by_tensors = largest.fmt.name if largest else ""
    return About(family, size or size_label(n_values), kind or _file_type(header.metadata) or by_tensors)


def size_label(n_values: int) -> str:
    """A number of parameters in short: 134,515,008 is "135M"."""
    if n_values >= 999_500_000:
        return f"{n_values / 1e9:.1f}B"
    return f"{n_values / 1e6:.0f}M" if n_values >= 1_000_000 else f"{n_values / 1e6:.1g}M"


def _file_type(metadata: Mapping[str, Any]) -> str:
    number = metadata.get("general.file_type")
    return FILE_TYPES.get(number, "") if isinstance(number, int) else ""


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value[:64] if isinstance(value, str) else ""
