"""`.npz` archives of arrays, read without pickle and without believing a size: a zip of `.npy` files.

An entry of a zip is stored (and then mapped straight from the file) or deflated (and then unpacked, once its
claimed size has been held against its packed size). A `.npy` starts with a magic number, a version and the
text of a dict with "descr", "fortran_order" and "shape", parsed here with one regular expression. Sources:
the ZIP file format specification (APPNOTE) and NumPy's `numpy.lib.format` description.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.checkpoint import Tensor
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.file_rows import FileRows, OpenFile, read_rows
from llama_core.loaders.cursor import open_file, quoted
from llama_core.quant.table import F16, F32, F64, BlockFormat

FORMATS: dict[str, BlockFormat] = {"<f4": F32, "<f2": F16, "<f8": F64}
NPY_MAGIC = b"\x93NUMPY"
MAX_NPY_HEADER = 4096
MAX_ENTRIES = 100_000
# Deflate reaches 1,000 to 1 on zeros; weights never pass 10 to 1 (float32 holding few distinct values).
MAX_RATIO = 16
# Of an entry whose checksum is computed, held in memory at a time.
PIECE_BYTES = 1 << 20
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
ENCRYPTED = 1
HEADER_TEXT = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[^'\\]{1,32})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\),?\s*\}\s*"
)


def open_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of the archive by name. Raises ModelFormatError before anything is allocated or executed."""
    file = open_file(path)
    entries = _entries(path)
    _check_sizes(path, entries, file.size)
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in tensors:
            raise ModelFormatError(path, f"entry {quoted(entry.filename)}", "occurs twice")
        tensors[name] = _array(path, name, _content(path, entry, file))
    return tensors


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # What zipfile lets through on damaged directories beside its own error.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OSError) as error:
        raise ModelFormatError(path, "zip directory", f"cannot be read: {quoted(str(error))}") from error
    if any(entry.filename.endswith("/data.pkl") or entry.filename == "data.pkl" for entry in entries):
        problem = (
            "this is a PyTorch archive with pickled objects, which are never opened; safetensors would work"
        )
        raise UnsupportedModelError(path, "entry data.pkl", problem)
    return entries


def _check_sizes(path: Path, entries: list[zipfile.ZipInfo], file_bytes: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise ModelFormatError(
            path, "zip directory", f"has {len(entries):,} entries, the limit is {MAX_ENTRIES:,}"
        )
    packed = sum(entry.compress_size for entry in entries)
    if packed > file_bytes:
        raise ModelFormatError(
            path, "zip directory", f"claims {packed:,} packed bytes in a file of {file_bytes:,}"
        )
    for entry in entries:
        where = f"entry {quoted(entry.filename)}"
        if not entry.filename.endswith(".npy"):
            raise ModelFormatError(path, where, "is no .npy array")
        if entry.flag_bits & ENCRYPTED:
            raise ModelFormatError(path, where, "is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFormatError(
                path, where, f"has compression {entry.compress_type}; stored and deflated are read"
            )
        if entry.file_size > MAX_RATIO * entry.compress_size:
            problem = (
                f"would unpack {entry.compress_size:,} bytes to {entry.file_size:,}, over {MAX_RATIO} to 1"
            )
            raise ModelFormatError(path, where, problem)
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise ModelFormatError(path, where, "is stored but has two sizes")


def _content(path: Path, entry: zipfile.ZipInfo, file: OpenFile) -> FileRows | NDArray[np.uint8]:
    """The entry's bytes, (1, n): still in the file where stored, unpacked where deflated."""
    where = f"entry {quoted(entry.filename)}"
    start, end = entry.header_offset, entry.header_offset + LOCAL_HEADER.size
    if start < 0 or end > file.size:
        raise ModelFormatError(path, where, f"its header at byte {start:,} lies outside the file")
    magic, *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(file.bytes(start, LOCAL_HEADER.size).tobytes())
    if magic != b"PK\x03\x04":
        raise ModelFormatError(path, where, f"there is no entry header at byte {start:,}")
    begin = end + name_bytes + extra_bytes
    if begin + entry.compress_size > file.size:
        raise ModelFormatError(
            path, where, f"its {entry.compress_size:,} bytes reach past the end of the file"
        )
    content: FileRows | NDArray[np.uint8] = file.rows(begin, 1, entry.compress_size)
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        content = _unpack(path, where, file.bytes(begin, entry.compress_size), entry.file_size)[None, :]
    checksum = 0
    for at in range(0, content.shape[1], PIECE_BYTES):
        checksum = zlib.crc32(read_rows(content[:, at : at + PIECE_BYTES]).data, checksum)
    if checksum != entry.CRC:
        raise ModelFormatError(path, where, "does not have the checksum that the archive states")
    return content


def _unpack(path: Path, where: str, packed: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(packed.data, size + 1)
    except zlib.error as error:
        raise ModelFormatError(path, where, f"cannot be unpacked: {error}") from error
    if len(content) != size:
        raise ModelFormatError(
            path, where, f"unpacks to {len(content):,} bytes or more, the archive says {size:,}"
        )
    return np.frombuffer(content, dtype=np.uint8)


def _array(path: Path, name: str, content: FileRows | NDArray[np.uint8]) -> Tensor:
    """The array in the bytes of a `.npy`, (1, n)."""
    where = f"array {quoted(name)}"
    start = read_rows(content[:, :12]).tobytes()
    if not start.startswith(NPY_MAGIC) or len(start) < 12 or start[6] not in (1, 2, 3):
        raise ModelFormatError(path, where, "is no .npy of version 1 to 3")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > MAX_NPY_HEADER:
        raise ModelFormatError(
            path, where, f"has a header of {length:,} bytes, the limit is {MAX_NPY_HEADER:,}"
        )
    begin = 8 + width + length
    text = read_rows(content[:, 8 + width : begin]).tobytes().decode("latin-1")
    header = HEADER_TEXT.fullmatch(text)
    if header is None:
        raise ModelFormatError(path, where, f"has the header {quoted(text)}, which describes no plain array")
    fmt = FORMATS.get(header["descr"])
    if fmt is None:
        problem = (
            f"holds {quoted(header['descr'])}; float32, float16 and float64 arrays are read, objects never"
        )
        raise ModelFormatError(path, where, problem)
    shape = tuple(int(n) for n in re.findall("[0-9]{1,18}", header["shape"]))
    nbytes = fmt.block_bytes
    for n in shape:
        nbytes *= n
    if not shape or nbytes == 0 or nbytes != content.size - begin:
        raise ModelFormatError(path, where, f"shape {shape} does not fit {content.size - begin:,} bytes")
    values, row_bytes = content[:, begin:], fmt.row_bytes(shape[-1])
    if header["fortran"] == "True" and len(shape) > 1:
        items = read_rows(values).reshape(*shape[::-1], fmt.block_bytes)
        axes = (*range(len(shape) - 1, -1, -1), len(shape))
        values = np.ascontiguousarray(items.transpose(axes))
    return Tensor(name, shape, fmt, values.reshape(-1, row_bytes))
