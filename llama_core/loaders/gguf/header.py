"""The header of a GGUF file: key-value metadata and the place of every tensor.

    magic "GGUF" | version u32 | n_tensors u64 | n_kv u64
    n_kv times:      key string | value type u32 | value
    n_tensors times: name string | n_dims u32 | n_dims x u64, fastest first | type u32 | offset u64
    padding up to `general.alignment` (32 unless given), then the tensors' data

A string is a u64 length and its bytes; an array an element type u32, a count u64 and the elements. Source:
the GGUF specification (docs/gguf.md of the ggml project). All numbers are little-endian here.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.file_rows import FileRows, OpenFile
from llama_core.loaders.cursor import U64, Cursor, open_file, quoted
from llama_core.loaders.gguf.values import UINT32, read_value
from llama_core.quant.table import FORMATS, UNREADABLE, BlockFormat

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_KEY_BYTES = 65535
MAX_NAME_BYTES = 63
MAX_DIMS = 4
LARGEST_FILE = 1 << 46  # a tensor that ends behind it is nonsense, and no file was cut short
ALIGNMENT_KEY = "general.alignment"

U32 = struct.Struct("<I")
# The least bytes that one key-value pair or one tensor entry takes: what bounds their claimed numbers.
MIN_KV_BYTES = 8 + 1 + 4 + 1
MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor stands. shape: NumPy's order, rows first; offset: from the start of the file."""

    name: str
    shape: tuple[int, ...]
    fmt: BlockFormat
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, eq=False)
class GGUFHeader:
    """What stands before the data. `file` has the data, unread."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    alignment: int
    data_start: int
    file: OpenFile

    def raw(self, info: TensorInfo) -> FileRows:
        """The tensor's blocks, (n_rows, row_bytes) uint8."""
        row_bytes = info.fmt.row_bytes(info.shape[-1])
        return self.file.rows(info.offset, info.nbytes // row_bytes, row_bytes)


def read_header(path: Path, *, skim: bool = False) -> GGUFHeader:
    """Read and check the header of the GGUF file at `path`. skim: see `Cursor`.

    Raises ModelFormatError for anything the specification forbids or that does not fit into the file,
    UnsupportedModelError for versions and tensor types that this reader does not know.
    """
    file = open_file(path)
    mapped = file.mapped()
    cursor = Cursor(path, mapped, skim=skim)
    version = _read_version(cursor, mapped)
    n_tensors = cursor.scalar(U64, "n_tensors")
    n_kv = cursor.scalar(U64, "n_kv")
    left = cursor.size - cursor.position
    if n_kv * MIN_KV_BYTES + n_tensors * MIN_TENSOR_BYTES > left:
        raise ModelFormatError(
            path,
            "n_kv and n_tensors",
            f"{n_kv:,} keys and {n_tensors:,} tensors cannot fit into {left:,} bytes",
        )
    metadata = _read_metadata(cursor, n_kv)
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    tensors = _read_tensors(cursor, n_tensors, alignment)
    return GGUFHeader(
        path=path,
        version=version,
        metadata=metadata,
        tensors=tensors,
        alignment=alignment,
        data_start=_align(cursor.position, alignment),
        file=file,
    )


def read_head(path: Path, until: str = "tokenizer.") -> dict[str, Any]:
    """The metadata before the first key that starts with `until`: a thousandth of what a tokenizer takes.

    Writers put `general.*` and the shape first. Raises as `read_header`.
    """
    mapped = open_file(path).mapped()
    cursor = Cursor(path, mapped, skim=True)
    _read_version(cursor, mapped)
    cursor.scalar(U64, "n_tensors")
    n_kv = cursor.scalar(U64, "n_kv")
    return _read_metadata(cursor, n_kv, until)


def _read_version(cursor: Cursor, mapped: mmap.mmap) -> int:
    magic = mapped[:4]
    if magic != MAGIC:
        raise cursor.error(f"the file starts with {magic!r}, expected {MAGIC!r}", 0)
    cursor.position = 4
    version: int = cursor.scalar(U32, "version")
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0 and version:
        problem = "the file is big-endian; only little-endian files are read"
    elif version == 1:
        problem = "version 1 is obsolete; convert the model again to get version 3"
    else:
        problem = f"version {version:,} is not known; versions 2 and 3 are read"
    raise UnsupportedModelError(cursor.path, "version", problem)


def _read_metadata(cursor: Cursor, n_kv: int, until: str | None = None) -> dict[str, Any]:
    """All `n_kv` keys, or those before the first that starts with `until`."""
    metadata: dict[str, Any] = {}
    for index in range(n_kv):
        start = cursor.position
        key = cursor.string(f"key {index}")
        if not 1 <= cursor.position - start - U64.size <= MAX_KEY_BYTES:
            raise cursor.error(f"key {index} has a bad length, expected 1 to {MAX_KEY_BYTES:,} bytes", start)
        if until is not None and key.startswith(until):
            break
        if key in metadata:
            raise cursor.error(f"key {quoted(key)} occurs twice", start)
        kind = cursor.scalar(U32, f"the type of {quoted(key)}")
        metadata[key] = read_value(cursor, kind, key)
        if key == ALIGNMENT_KEY:
            _check_alignment(cursor.path, kind, metadata[key])
    return metadata


def _check_alignment(path: Path, kind: int, alignment: Any) -> None:
    where = f"metadata key {ALIGNMENT_KEY}"
    if kind != UINT32:
        raise ModelFormatError(path, where, f"has value type {kind}, expected {UINT32} (uint32)")
    if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ModelFormatError(
            path, where, f"is {alignment:,}, expected a power of two from 8 to {MAX_ALIGNMENT:,}"
        )


def _read_tensors(cursor: Cursor, n_tensors: int, alignment: int) -> dict[str, TensorInfo]:
    """The tensor table. Offsets count from the aligned end of the header, known only after the last entry."""
    entries: dict[str, tuple[tuple[int, ...], BlockFormat, int, int]] = {}
    for index in range(n_tensors):
        start = cursor.position
        name = cursor.string(f"the name of tensor {index}")
        length = cursor.position - start - U64.size
        if not 1 <= length <= MAX_NAME_BYTES:
            raise cursor.error(
                f"the name of tensor {index} has {length:,} bytes, expected 1 to {MAX_NAME_BYTES}", start
            )
        if name in entries:
            raise cursor.error(f"tensor {quoted(name)} occurs twice", start)
        entries[name] = _read_entry(cursor, name, alignment)
    data_start = _align(cursor.position, alignment)
    tensors = {
        name: TensorInfo(name, shape, fmt, data_start + offset, nbytes)
        for name, (shape, fmt, offset, nbytes) in entries.items()
    }
    _check_places(cursor, tensors, alignment)
    return tensors


def _read_entry(cursor: Cursor, name: str, alignment: int) -> tuple[tuple[int, ...], BlockFormat, int, int]:
    """Shape, format, offset within the data and size in bytes of one tensor."""
    where = f"tensor {quoted(name)}"
    n_dims = cursor.scalar(U32, f"the number of dimensions of {where}")
    if not 1 <= n_dims <= MAX_DIMS:
        raise ModelFormatError(cursor.path, where, f"has {n_dims:,} dimensions, expected 1 to {MAX_DIMS}")
    cursor.need(n_dims * U64.size, f"the shape of {where}")
    shape = tuple(cursor.scalar(U64, where) for _ in range(n_dims))[::-1]
    kind = cursor.scalar(U32, f"the type of {where}")
    offset = cursor.scalar(U64, f"the offset of {where}")
    fmt = FORMATS.get(kind)
    if fmt is None:
        known = f"type {UNREADABLE[kind]}" if kind in UNREADABLE else f"the unknown type {kind:,}"
        advice = "a file of another quantisation, such as Q4_K_M or Q8_0, would work"
        raise UnsupportedModelError(cursor.path, where, f"has {known}; {advice}")
    if any(not 1 <= n < 1 << 63 for n in shape):
        raise ModelFormatError(cursor.path, where, f"has the shape {shape}, expected positive numbers")
    try:
        nbytes = fmt.row_bytes(shape[-1])
    except ValueError as error:
        raise ModelFormatError(cursor.path, where, str(error)) from error
    for n in shape[:-1]:
        nbytes *= n
    if offset % alignment:
        raise ModelFormatError(cursor.path, where, f"has the offset {offset:,}, no multiple of {alignment}")
    return shape, fmt, offset, nbytes


def _check_places(cursor: Cursor, tensors: Mapping[str, TensorInfo], alignment: int) -> None:
    """Every tensor inside the file, none over another; the padding behind the last whole or absent."""
    _check_size(cursor, tensors)
    end, before = 0, ""
    for info in sorted(tensors.values(), key=lambda t: t.offset):
        if info.offset < end:
            raise ModelFormatError(
                cursor.path,
                f"tensor {quoted(info.name)}",
                f"overlaps tensor {quoted(before)} at byte {info.offset:,}",
            )
        end, before = info.offset + info.nbytes, info.name
    if end < cursor.size < _align(end, alignment):
        raise ModelFormatError(
            cursor.path, "end of file", f"is cut off within the padding behind byte {end:,}"
        )


def _check_size(cursor: Cursor, tensors: Mapping[str, TensorInfo]) -> None:
    """A file that ends before its tensors do was most often not fetched whole, and that is said first."""
    beyond = [info for info in tensors.values() if info.offset + info.nbytes > cursor.size]
    if not beyond:
        return
    first = min(beyond, key=lambda info: info.offset)
    tensor, end = f"tensor {quoted(first.name)}", first.offset + first.nbytes
    whole = max(info.offset + info.nbytes for info in beyond)
    if whole > LARGEST_FILE:
        problem = f"ends at byte {end:,} but the file has {cursor.size:,} bytes"
        raise ModelFormatError(cursor.path, tensor, problem)
    there = f"{cursor.size:,} of {whole:,} bytes"
    if whole >= 1_000_000:
        there = f"{cursor.size / 1e6:,.0f} of {whole / 1e6:,.0f} MB"
    raise ModelFormatError(cursor.path, f"incomplete, {there}", f"{tensor} ends at byte {end:,}")


def _align(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
