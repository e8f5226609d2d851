"""GGUF models cut into several files, `NAME-00001-of-0000N.gguf`, as ggml's `gguf-split` writes them.

The first file holds all metadata and perhaps no tensor. Each says its number (`split.no`, from 0), how many
files there are (`split.count`) and how many tensors they hold together (`split.tensors.count`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.gguf.header import GGUFHeader, read_header
from llama_core.loaders.gguf.shard_names import SHARD_NAME, shard_name

MAX_SHARDS = 9999


def read_shards(path: Path, *, skim: bool = False) -> list[GGUFHeader]:
    """The headers of all files of the model that `path` is, or is a part of; the first one first. skim: see
    `Cursor`.

    Raises ModelFormatError where a part is missing, foreign or holds another number of tensors.
    """
    header = read_header(path, skim=skim)
    count = _number(header, "split.count", 1, MAX_SHARDS) if "split.count" in header.metadata else 1
    if count == 1:
        return [header]
    name = SHARD_NAME.fullmatch(path.name)
    if name is None or int(name["count"]) != count:
        raise ModelFormatError(
            path, "file name", f"is not NAME-00001-of-{count:05}.gguf, as the parts of a model are"
        )
    own_number = _number(header, "split.no", 0, count - 1)
    headers = []
    for number in range(count):
        shard = path.with_name(shard_name(name["stem"], number + 1, count))
        part = header if number == own_number and shard == path else read_header(shard, skim=skim)
        found = (_number(part, "split.no", 0, count - 1), _number(part, "split.count", 1, MAX_SHARDS))
        if found != (number, count):
            raise ModelFormatError(
                shard, "split.no", f"says part {found[0] + 1} of {found[1]}, expected {number + 1} of {count}"
            )
        headers.append(part)
    _check_together(headers)
    return headers


def _check_together(headers: list[GGUFHeader]) -> None:
    seen: set[str] = set()
    for header in headers:
        for tensor in header.tensors:
            if tensor in seen:
                raise ModelFormatError(
                    header.path, f"tensor {quoted(tensor)}", "occurs in two parts of the model"
                )
            seen.add(tensor)
    first = headers[0]
    if "split.tensors.count" in first.metadata and first.metadata["split.tensors.count"] != len(seen):
        wanted = quoted(str(first.metadata["split.tensors.count"]))
        raise ModelFormatError(
            first.path, "split.tensors.count", f"is {wanted} but the parts hold {len(seen)}"
        )


def _number(header: GGUFHeader, key: str, low: int, high: int) -> int:
    metadata: Mapping[str, Any] = header.metadata
    value = metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        problem = f"is {quoted(str(value))}, expected a number from {low} to {high}"
        raise ModelFormatError(header.path, f"metadata key {key}", problem)
    return value
