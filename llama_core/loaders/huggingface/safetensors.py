"""One `.safetensors` file.

    length of the header u64 | header: JSON | data

The header maps each name to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from the start
of the data; "__metadata__" maps strings to strings. The format promises, and this reader holds it to that:
a header of at most 100 MB, no key twice, and tensors that cover the data without overlap and without holes.
Source: the format's description in the safetensors project's README.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.checkpoint import Tensor
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.file_rows import OpenFile
from llama_core.loaders.cursor import U64, Cursor, open_file, quoted
from llama_core.loaders.json_files import parse_object
from llama_core.quant.table import BF16, F16, F32, F64, BlockFormat

MAX_HEADER_BYTES = 100_000_000
MAX_DIMS = 8
READABLE: dict[str, BlockFormat] = {"F32": F32, "F16": F16, "BF16": BF16, "F64": F64}
# Bits of one number of the other types, so that a file with a mask or an index in it can be checked as well.
OTHER_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16,
    "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the file. begin, end: bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsFile:
    """An opened file, its tensors unread."""

    path: Path
    entries: dict[str, Entry]
    file: OpenFile

    def tensor(self, name: str) -> Tensor:
        """The tensor `name`. Raises UnsupportedModelError where it holds no floats."""
        entry = self.entries[name]
        fmt = READABLE.get(entry.dtype)
        where = f"tensor {quoted(name)}"
        if fmt is None:
            problem = f"has type {entry.dtype}; a model in F32, F16 or BF16 would work"
            raise UnsupportedModelError(self.path, where, problem)
        if not entry.shape or entry.begin == entry.end:
            raise ModelFormatError(self.path, where, f"has the shape {entry.shape}, expected rows of numbers")
        row_bytes = fmt.row_bytes(entry.shape[-1])
        n_rows = (entry.end - entry.begin) // row_bytes
        return Tensor(name, entry.shape, fmt, self.file.rows(entry.begin, n_rows, row_bytes))


def open_safetensors(path: Path) -> SafetensorsFile:
    """Read and check the header of the file at `path`. Raises ModelFormatError."""
    file = open_file(path)
    mapped = file.mapped()
    cursor = Cursor(path, mapped)
    length = cursor.scalar(U64, "the header's length")
    if length > MAX_HEADER_BYTES:
        raise ModelFormatError(
            path, "byte 0", f"a header of {length:,} bytes, the limit is {MAX_HEADER_BYTES:,}"
        )
    cursor.need(length, "the header")
    start = U64.size + length
    if mapped[U64.size : U64.size + 1] != b"{":
        raise ModelFormatError(path, f"byte {U64.size}", "the header does not start with {")
    header = parse_object(path, "header", mapped[U64.size : start])
    _check_metadata(path, header.pop("__metadata__", {}))
    entries = {name: _entry(path, name, value, start) for name, value in header.items()}
    _check_cover(path, list(entries.values()), start, cursor.size)
    return SafetensorsFile(path, entries, file)


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFormatError(path, "header field __metadata__", "does not map strings to strings")


def _entry(path: Path, name: str, value: Any, data_start: int) -> Entry:
    where = f"tensor {quoted(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ModelFormatError(path, where, "does not have exactly the fields dtype, shape, data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    bits = _bits(dtype)
    if bits is None:
        raise ModelFormatError(path, where, f"has the unknown type {quoted(str(dtype))}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMS:
        raise ModelFormatError(
            path, where, f"has the shape {quoted(str(shape))}, expected up to {MAX_DIMS} sizes"
        )
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ModelFormatError(path, where, f"has the offsets {quoted(str(offsets))}, expected two numbers")
    for size in shape:
        bits *= size
    begin, end = offsets
    if begin > end or bits != 8 * (end - begin):
        problem = f"offsets {begin:,} to {end:,} do not hold {dtype} {tuple(shape)}"
        raise ModelFormatError(path, where, problem)
    return Entry(name, dtype, tuple(shape), data_start + begin, data_start + end)


def _bits(dtype: Any) -> int | None:
    if not isinstance(dtype, str):
        return None
    return 8 * READABLE[dtype].block_bytes if dtype in READABLE else OTHER_BITS.get(dtype)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 63 for v in values
    )


def _check_cover(path: Path, entries: list[Entry], start: int, size: int) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    position = start
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        where = f"tensor {quoted(entry.name)}"
        if entry.begin < position:
            raise ModelFormatError(path, where, f"overlaps another one at byte {entry.begin:,}")
        if entry.begin > position:
            raise ModelFormatError(path, where, f"leaves a hole from byte {position:,} to {entry.begin:,}")
        position = entry.end
    if position != size:
        what = "is cut short: the tensors end" if position > size else "goes on after the tensors' end"
        raise ModelFormatError(path, "data", f"the file of {size:,} bytes {what} at byte {position:,}")
