"""Exact sizes for llama2.c's `.bin`, and files that are something else altogether."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import pytest

from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint, read_model
from tests.support import model_files


def test_every_other_size_is_refused(tmp_path: Path) -> None:
    for version in (0, 1, 2):
        path = model_files.write_llama2c(tmp_path / "m.bin", model_files.TinyModel(), version)
        whole = path.read_bytes()
        for content in (whole[:-1], whole + b"\0", whole[: len(whole) // 2], whole * 2):
            path.write_bytes(content)
            with pytest.raises(ModelFormatError, match=r"file size: is .* bytes; the header implies"):
                read_model(path)


SIZES = struct.Struct("<7i")
GOOD = (64, 96, 2, 8, 4, 300, 64)


def header(version: int, sizes: tuple[int, ...] = GOOD, shared: int = 1, group: int = 32) -> bytes:
    head = struct.pack("<Ii", 0x616B3432, version) + SIZES.pack(*sizes) + struct.pack("<Bi", shared, group)
    return head.ljust(256, b"\0") + bytes(1000)


BINS: dict[str, tuple[bytes, str]] = {
    "version 0 behind the magic": (header(0), "version: is 0"),
    "version 3": (header(3), "version: is 3; legacy files and versions 1 and 2 are read"),
    "version -1": (header(-1), "version: is -1"),
    "head flag 2": (header(1, shared=2), "shared-head flag: is 2"),
    "group 0": (header(2, group=0), "group size: is 0"),
    "group -1": (header(2, group=-1), "group size: is -1"),
    "group that does not divide": (header(2, group=7), "does not divide"),
    "dim 0": (header(1, (0, *GOOD[1:])), "dim is 0"),
    "negative hidden": (header(1, (64, -96, *GOOD[2:])), "hidden_dim is -96"),
    "10^6 layers": (header(1, (64, 96, 10**6, 8, 4, 300, 64)), "n_layers is 1000000"),
    "no heads": (header(1, (64, 96, 2, 0, 4, 300, 64)), "n_heads is 0"),
    "heads that do not divide": (header(1, (64, 96, 2, 7, 7, 300, 64)), "no multiple of n_heads 7"),
    "kv heads that do not divide": (header(1, (64, 96, 2, 8, 3, 300, 64)), "no multiple of n_kv_heads 3"),
    "sizes of 2^31-1": (header(1, (2**31 - 1,) * 7), "header: "),
    "header cut off": (header(1)[:20], "seven sizes needs 28 bytes"),
}


@pytest.mark.parametrize("name", BINS)
def test_a_llama2c_header_that_makes_no_model(tmp_path: Path, name: str) -> None:
    content, message = BINS[name]
    path = tmp_path / "m.bin"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match=message):
        read_model(path)


def test_a_model_without_its_tokenizer(tmp_path: Path) -> None:
    path = model_files.write_llama2c(tmp_path / "m.bin", model_files.TinyModel())
    beside = tmp_path / "tokenizer.bin"
    elsewhere = tmp_path / "other" / "tok.bin"
    elsewhere.parent.mkdir()
    beside.rename(elsewhere)
    with pytest.raises(
        ModelFormatError, match=r"no 'tokenizer\.bin' beside the model; give .* with --tokenizer"
    ):
        open_checkpoint(path)
    assert open_checkpoint(path, elsewhere).tokenizer.vocab_size <= 300


# --- what is no model at all ---

OTHERS: dict[str, tuple[bytes, str]] = {
    "old ggml": (struct.pack("<I", 0x67676A74) + bytes(100), "from before GGUF; a GGUF file would work"),
    "a pickle": (pickle.dumps({"weights": [1.0]}), "a pickle, which could run any code"),
    "text": (b"Once upon a time there was a file that was no model at all.", "no known model does"),
    "zeros": (bytes(4096), "no known model does"),
    "one byte": (b"G", "no known model does"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_named(tmp_path: Path, name: str) -> None:
    content, message = OTHERS[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match=message):
        read_model(path)


def test_a_folder_with_two_models(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        model_files.write_gguf(tmp_path / name, model_files.TinyModel())
    with pytest.raises(ModelFormatError, match=r"holds 2 models; name one of them: 'a\.gguf', 'b\.gguf'"):
        read_model(tmp_path)
