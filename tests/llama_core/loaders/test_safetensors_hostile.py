"""faults.md row 5 for safetensors: the format's own promises are held."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from llama_core.errors import ModelFormatError
from llama_core.loaders.huggingface.safetensors import open_safetensors


def entry(dtype: Any = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def file_of(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "seven bytes": (bytes(7), "the header's length needs 8 bytes"),
    "header over 100 MB": (
        struct.pack("<Q", 100_000_001) + b"{",
        "100,000,001 bytes, the limit is 100,000,000",
    ),
    "header of 2^64-1": (file_of({}, length=2**64 - 1), "the limit is 100,000,000"),
    "header beyond the file": (file_of({}, length=100), "the header needs 100 bytes"),
    "header that is a list": (file_of(b"[]"), "does not start with {"),
    "header that is no JSON": (file_of(b"{oops}"), "is no JSON"),
    "header that is no UTF-8": (file_of(b'{"\xff": 1}'), "is no JSON"),
    "header nested deeply": (file_of(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "header with a huge number": (file_of(b'{"a":' + b"9" * 10_000 + b"}"), "is no JSON"),
    "duplicate key": (file_of(b'{"t": 1, "t": 2}'), "key 't' occurs twice"),
    "duplicate key inside": (
        file_of(b'{"t": {"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}}'),
        "key 'dtype' occurs twice",
    ),
    "overlap": (
        file_of({"a": entry(shape=[4]), "b": entry(shape=[4], offsets=[8, 24])}, bytes(24)),
        "'b': overlaps another",
    ),
    "hole at the start": (file_of({"a": entry(offsets=[8, 24])}, bytes(24)), "'a': leaves a hole"),
    "hole between": (
        file_of({"a": entry(), "b": entry(offsets=[20, 36])}, bytes(36)),
        "'b': leaves a hole",
    ),
    "hole at the end": (file_of({"a": entry()}, bytes(17)), "goes on after the tensors' end"),
    "data cut short": (file_of({"a": entry()}, bytes(15)), "is cut short"),
    "data but no tensor": (file_of({}, bytes(1)), "goes on"),
    "offsets the wrong way": (file_of({"a": entry(offsets=[16, 0])}), "offsets 16 to 0 do not hold"),
    "offsets that do not fit the shape": (
        file_of({"a": entry(shape=[2, 3])}),
        "do not hold F32 (2, 3)".replace("(", r"\(").replace(")", r"\)"),
    ),
    "shape that wraps to 16 bytes": (file_of({"a": entry(shape=[2**62 + 1, 4])}), "do not hold"),
    "negative shape": (file_of({"a": entry(shape=[-2, -2])}), "has the shape"),
    "shape of floats": (file_of({"a": entry(shape=[2.0, 2])}), "has the shape"),
    "shape of booleans": (file_of({"a": entry(shape=[True, 4])}), "has the shape"),
    "shape with 9 sizes": (file_of({"a": entry(shape=[1] * 8 + [4])}), "has the shape"),
    "three offsets": (file_of({"a": entry(offsets=[0, 16, 16])}), "expected two numbers"),
    "unknown type": (file_of({"a": entry("F31")}), "unknown type 'F31'"),
    "type that is no string": (file_of({"a": entry(["F32"])}), "unknown type"),
    "field too many": (file_of({"a": entry() | {"x": 1}}), "exactly the fields"),
    "field missing": (file_of({"a": {"dtype": "F32"}}), "exactly the fields"),
    "entry that is no object": (file_of({"a": 3}), "exactly the fields"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}, "a": entry()}), "does not map strings"),
    "metadata that is a list": (file_of({"__metadata__": [], "a": entry()}), "does not map strings"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match=message):
        open_safetensors(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_header_over_the_limit_is_refused_even_where_the_bytes_are_there(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{}")
        file.truncate(8 + 100_000_001)  # sparse
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="the limit is"):
        open_safetensors(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_empty_but_valid_files_load(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for content in (file_of({}, b""), file_of(b"{}      ", b""), file_of({"__metadata__": {"a": "b"}}, b"")):
        path.write_bytes(content)
        assert open_safetensors(path).entries == {}
    path.write_bytes(
        file_of(
            {"none": entry(shape=[0, 4], offsets=[0, 0]), "scalar": entry(shape=[], offsets=[0, 4])}, bytes(4)
        )
    )
    assert set(open_safetensors(path).entries) == {"none", "scalar"}
