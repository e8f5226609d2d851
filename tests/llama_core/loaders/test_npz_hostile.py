"""faults.md row 5 for `.npz`: nothing is executed, nothing allocated on a file's word."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.npz import open_npz
from tests.support import model_files


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npy_with_header(text: str, data: bytes = bytes(16), version: int = 1, length: int | None = None) -> bytes:
    head = text.encode("latin-1")
    width = "<H" if version == 1 else "<I"
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack(width, len(head) if length is None else length)
        + head
        + data
    )


def archive(path: Path, entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


class Dangerous:
    """Unpickling it would leave a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/llama-chat-pickle-was-run"),))


HEADERS: dict[str, tuple[bytes, str]] = {
    "pickled objects": (npy(np.array([Dangerous()], dtype=object)), "describes no plain array|objects never"),
    "80 bytes that claim 32 GiB": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (8589934592,), }\n"),
        "does not fit",
    ),
    "shape that wraps": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }\n"),
        "does not fit",
    ),
    "shape with a name": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }\n"),
        "no plain array",
    ),
    "negative shape": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }\n"),
        "no plain array",
    ),
    "shape of no values": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }\n", b""),
        "does not fit",
    ),
    "a scalar": (npy(np.float32(1)), "does not fit"),
    "records": (npy(np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")])), "no plain array"),
    "big-endian": (npy(np.zeros(2, dtype=">f4")), "'>f4'"),
    "whole numbers": (npy(np.zeros(2, dtype=np.int64)), "'<i8'; float32"),
    "text": (npy(np.array(["a"])), "float32, float16 and float64"),
    "code in the header": (
        npy_with_header("__import__('os').system('touch /tmp/llama-chat-header-was-run')"),
        "no plain array",
    ),
    "header of 65,535 bytes": (npy_with_header("", length=65535), "the limit is 4,096"),
    "header of 2^32-1 bytes": (npy_with_header("", version=2, length=2**32 - 1), "the limit is 4,096"),
    "header cut off": (npy_with_header("{'descr': '<f4', 'for", b""), "no plain array"),
    "version 9": (
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", version=9),
        "version 1 to 3",
    ),
    "no npy": (b"hello, world", "is no .npy"),
    "nothing": (b"", "is no .npy"),
    "data too long": (npy(np.zeros(4, dtype=np.float32)) + b"x", "does not fit 17 bytes"),
    "data too short": (npy(np.zeros(4, dtype=np.float32))[:-1], "does not fit 15 bytes"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", HEADERS)
def test_an_array_that_is_none(tmp_path: Path, name: str, compression: int) -> None:
    content, message = HEADERS[name]
    path = archive(tmp_path / "m.npz", [("a.npy", content)], compression)
    marks = [Path("/tmp/llama-chat-pickle-was-run"), Path("/tmp/llama-chat-header-was-run")]
    for mark in marks:
        mark.unlink(missing_ok=True)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match=message):
        open_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert not any(mark.exists() for mark in marks), "something in the file was executed"


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = npy(np.zeros(64 << 20, dtype=np.uint8).view(np.float32))
    path = archive(tmp_path / "m.npz", [("a.npy", bomb)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="over 16 to 1"):
        open_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_zip_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    bomb = npy(np.zeros(16 << 20, dtype=np.uint8).view(np.float32))
    path = archive(tmp_path / "m.npz", [("a.npy", bomb)], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 8 * struct.unpack("<I", content[at - 4 : at])[0])
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="bytes or more, the archive says"):
        open_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def edit_directory(path: Path, offset: int, value: bytes) -> None:
    """Overwrite bytes of the first entry in the central directory."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)


DIRECTORY: dict[str, tuple[int, bytes, str]] = {
    "encrypted": (8, b"\x01\x00", "is encrypted"),
    "an unknown compression": (10, b"\x0c\x00", "has compression 12"),
    "another checksum": (16, b"\x00\x00\x00\x00", "checksum"),
    "two sizes": (24, b"\x01\x00\x00\x00", "has two sizes"),
    "more packed bytes than the file has": (20, b"\xff\xff\xff\x7f", "packed bytes in a file of"),
    "an offset beyond the file": (42, b"\xff\xff\xff\x7f", "lies outside the file"),
    "an offset to something else": (42, b"\x01\x00\x00\x00", "no entry header"),
}


@pytest.mark.parametrize("name", DIRECTORY)
def test_a_directory_that_lies(tmp_path: Path, name: str) -> None:
    offset, value, message = DIRECTORY[name]
    path = archive(tmp_path / "m.npz", [("a.npy", npy(np.ones(8, dtype=np.float32)))])
    edit_directory(path, offset, value)
    with pytest.raises(ModelFormatError, match=message):
        open_npz(path)


def test_entries_that_are_no_arrays(tmp_path: Path) -> None:
    good = npy(np.ones(8, dtype=np.float32))
    with pytest.raises(ModelFormatError, match=r"'a\.txt': is no \.npy"):
        open_npz(archive(tmp_path / "a.npz", [("a.txt", good)]))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "b.npz", [("a.npy", good), ("a.npy", good)])
    with pytest.raises(ModelFormatError, match="occurs twice"):
        open_npz(path)
    with pytest.raises(UnsupportedModelError, match=r"PyTorch archive.*safetensors would work"):
        open_npz(archive(tmp_path / "c.pt", [("archive/data.pkl", pickle.dumps({}))]))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_arrays_come_out_as_numpy_reads_them(tmp_path: Path, dtype: type, order: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": np.array(rng.normal(size=(5, 7)), dtype=dtype, order=order),
        "vector": rng.normal(size=9).astype(dtype),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    tensors = open_npz(tmp_path / "a.npz")
    for name, array in arrays.items():
        assert tensors[name].shape == array.shape
        np.testing.assert_array_equal(tensors[name].to_float32(), array.astype(np.float32))


def test_an_npz_whose_heads_are_unknown(tmp_path: Path) -> None:
    model = model_files.TinyModel(dim=96, n_heads=4, n_kv_heads=2, head_dim=24)
    path = model_files.write_npz(tmp_path / "m.npz", model)
    with pytest.raises(UnsupportedModelError, match=r"n_heads: is not in the file; a config\.json"):
        open_checkpoint(path)
    (tmp_path / "config.json").write_text('{"n_heads": 4, "max_seq_len": 77, "norm_eps": 1e-5}')
    config = open_checkpoint(path).config
    assert (config.n_heads, config.n_kv_heads, config.head_dim, config.max_seq_len) == (4, 2, 24, 77)
    (tmp_path / "config.json").write_text('{"n_heads": 5}')
    with pytest.raises(ModelFormatError, match="n_heads: is 5, which does not divide"):
        open_checkpoint(path)
