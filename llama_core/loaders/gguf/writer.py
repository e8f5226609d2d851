"""Writing GGUF version 3; the layout is drawn in `gguf_header.py`."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from llama_core.loaders.gguf.header import DEFAULT_ALIGNMENT, MAGIC
from llama_core.loaders.gguf.values import ARRAY, BOOL, NUMBERS, STRING
from llama_core.quant.table import BlockFormat

# Rows of a tensor, in file order, a few at a time: (n, row_bytes) uint8.
Pieces = Iterable[NDArray[np.uint8]]
DTYPE_KINDS = {dtype: kind for kind, (_, dtype) in NUMBERS.items()}
U32, I32, F32, U64, I64 = 4, 5, 6, 10, 11


@dataclass(frozen=True, slots=True, eq=False)
class OutTensor:
    """A tensor to write. shape: NumPy's order; pieces: called once, when its turn has come."""

    name: str
    shape: tuple[int, ...]
    fmt: BlockFormat
    pieces: Callable[[], Pieces]

    @property
    def nbytes(self) -> int:
        """Bytes in the file, without padding."""
        rows = 1
        for n in self.shape[:-1]:
            rows *= n
        return rows * self.fmt.row_bytes(self.shape[-1])


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Sequence[OutTensor]) -> None:
    """Write a GGUF file; `path` holds the whole file or is left as it was.

    metadata: str, bool, int (written as uint32 where it fits, else as the least of int32, uint64, int64 that
    holds it), float (as float32), list of str, and NumPy arrays by their dtype. Raises ValueError for other
    values and where pieces do not add up to a tensor's size, OSError from the file system about `path` or,
    where that is what is missing, its folder.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as file:
            _write_header(file, metadata, tensors)
            for tensor in tensors:
                _write_tensor(file, tensor)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # also KeyboardInterrupt: no half-written file stays behind
        with contextlib.suppress(OSError):  # as where its folder is none: the first error is the one to tell
            temporary.unlink()
        if isinstance(error, OSError) and error.filename == str(temporary):
            # Only this function knows the temporary name; the caller's own tells what to mend.
            theirs = path if path.parent.is_dir() else path.parent
            raise OSError(error.errno, error.strerror, str(theirs)) from error
        raise


def _write_header(file: IO[bytes], metadata: Mapping[str, Any], tensors: Sequence[OutTensor]) -> None:
    file.write(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        file.write(_string(key) + _value(key, value))
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        file.write(_string(tensor.name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        file.write(struct.pack("<IQ", tensor.fmt.ggml_id, offset))
        offset += tensor.nbytes + -tensor.nbytes % DEFAULT_ALIGNMENT
    _pad(file)


def _write_tensor(file: IO[bytes], tensor: OutTensor) -> None:
    start = file.tell()
    for piece in tensor.pieces():
        file.write(np.ascontiguousarray(piece).data)
    written = file.tell() - start
    if written != tensor.nbytes:
        raise ValueError(f"{tensor.name}: {written} bytes were given, expected {tensor.nbytes}")
    _pad(file)


def _pad(file: IO[bytes]) -> None:
    file.write(bytes(-file.tell() % DEFAULT_ALIGNMENT))


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(key: str, value: Any) -> bytes:
    """A value with its type before it."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        kind = _integer_kind(key, value)
        return struct.pack("<I", kind) + NUMBERS[kind][0].pack(value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        return struct.pack("<IIQ", ARRAY, BOOL, value.size) + value.tobytes()
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("<").str.replace("|", "<") in DTYPE_KINDS:
        dtype = value.dtype.newbyteorder("<")
        kind = DTYPE_KINDS[dtype.str.replace("|", "<")]
        return struct.pack("<IIQ", ARRAY, kind, value.size) + value.astype(dtype).tobytes()
    raise ValueError(f"{key}: a {type(value).__name__} cannot be written as GGUF metadata")


def _integer_kind(key: str, value: int) -> int:
    for kind, low, bits in ((U32, 0, 32), (I32, -(1 << 31), 31), (U64, 0, 64), (I64, -(1 << 63), 63)):
        if low <= value < 1 << bits:
            return kind
    raise ValueError(f"{key}: {value} has more than 64 bits")
