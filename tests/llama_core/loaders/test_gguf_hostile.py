"""faults.md row 1: every broken field is refused with its name, quickly, and before anything is allocated."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.gguf.header import read_header
from tests.support import gguf_bytes as raw
from tests.support import model_files

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9


def cases() -> dict[str, tuple[Any, str]]:
    """Name -> (how to build it from the module gguf_bytes, what the message must say)."""
    alignment = b"general.alignment"
    return {
        "bad magic": (lambda g: g.RawGguf(magic=b"GGUG"), r"byte 0: .*GGUG"),
        "version 0": (lambda g: g.RawGguf(version=0), "version 0"),
        "version 1": (lambda g: g.RawGguf(version=1), "version 1 is obsolete"),
        "version 4": (lambda g: g.RawGguf(version=4), "version 4 is not known"),
        "version 2^32-1": (lambda g: g.RawGguf(version=2**32 - 1), "is not known"),
        "big-endian": (lambda g: g.RawGguf(version=3 << 24), "big-endian"),
        "n_tensors -1": (lambda g: g.RawGguf(n_tensors=-1), "n_kv and n_tensors"),
        "n_tensors 10^8": (lambda g: g.RawGguf(n_tensors=10**8), "n_kv and n_tensors"),
        "n_kv -1": (lambda g: g.RawGguf(n_kv=-1), "n_kv and n_tensors"),
        "n_kv 10^8": (lambda g: g.RawGguf(n_kv=10**8), "n_kv and n_tensors"),
        "n_kv one too many": (lambda g: g.RawGguf(n_kv=1, data=bytes(8)), "cannot fit|remain|bad length"),
        "key length -1": (
            lambda g: g.RawGguf([b"\xff" * 8 + b"key" + struct.pack("<II", U32, 1)]),
            "key 0 needs 18,446,744,073,709,551,615 bytes",
        ),
        "empty key": (lambda g: g.RawGguf([g.pair(b"", U32, 1)]), "key 0 has a bad length"),
        "key over 65,535 bytes": (
            lambda g: g.RawGguf([g.pair(b"k" * 65536, U32, 1)]),
            "key 0 has a bad length",
        ),
        "duplicate key": (
            lambda g: g.RawGguf([g.pair("a", U32, 1), g.pair("a", U32, 2)]),
            "'a' occurs twice",
        ),
        "unknown value type": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<I", 13) + bytes(8)]),
            "'a' has the unknown type 13",
        ),
        "bool of 2": (lambda g: g.RawGguf([g.string("a") + struct.pack("<IB", 7, 2)]), "no bool"),
        "string of 2^63": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IQ", STRING, 2**63)]),
            "the value of 'a' needs",
        ),
        "array of 2^63 bytes": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQ", ARRAY, 0, 2**63)]),
            "the value of 'a' of 9,223,372,036,854,775,808 numbers needs",
        ),
        "array of 2^63 strings": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQ", ARRAY, STRING, 2**63)]),
            "the value of 'a' of 9,223,372,036,854,775,808 strings needs",
        ),
        "array of doubles whose size overflows 64 bits": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQ", ARRAY, 12, 2**61)]),
            "the value of 'a'",
        ),
        "array of arrays": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + bytes(12)]),
            "array of type 9",
        ),
        "array of unknown type": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQ", ARRAY, 99, 1) + bytes(12)]),
            "array of type 99",
        ),
        "string in an array that claims too much": (
            lambda g: g.RawGguf([g.string("a") + struct.pack("<IIQQ", ARRAY, STRING, 2, 0) + b"\xff" * 8]),
            "string 1 of the value of 'a' claims 18,446,744,073,709,551,615 bytes",
        ),
        "alignment 13": (lambda g: g.RawGguf([g.pair(alignment, U32, 13)]), "general.alignment: is 13"),
        "alignment 0": (lambda g: g.RawGguf([g.pair(alignment, U32, 0)]), "general.alignment: is 0"),
        "alignment 2^31": (
            lambda g: g.RawGguf([g.pair(alignment, U32, 1 << 31)]),
            "general.alignment: is 2,147",
        ),
        "alignment as int32": (
            lambda g: g.RawGguf([g.pair(alignment, I32, 32)]),
            "general.alignment: has value type 5",
        ),
        "alignment as string": (
            lambda g: g.RawGguf([g.pair(alignment, STRING, "32")]),
            "general.alignment: has value type 8",
        ),
        "tensor name of 64 bytes": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(b"n" * 64)]),
            "tensor 0 has 64 bytes, expected 1 to 63",
        ),
        "tensor without a name": (lambda g: g.RawGguf(tensors=[g.RawTensor(b"")]), "tensor 0 has 0 bytes"),
        "tensor twice": (lambda g: g.RawGguf(tensors=[g.RawTensor(), g.RawTensor()]), "'t' occurs twice"),
        "no dimensions": (lambda g: g.RawGguf(tensors=[g.RawTensor(dims=())]), "0 dimensions"),
        "5 dimensions": (lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(1,) * 5)]), "5 dimensions"),
        "2^32-1 dimensions": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(n_dims=2**32 - 1)]),
            "4,294,967,295 dimensions",
        ),
        "shape of 0": (lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(32, 0))]), "expected positive"),
        "negative shape": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(32, 2**64 - 1))]),
            "expected positive",
        ),
        "size over 64 bits": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(2**62, 2**62, 2**62, 2**62))]),
            "'t': ends at byte",
        ),
        "size that wraps to 0": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(2**32, 2**32))]),
            "'t': ends at byte",
        ),
        "unknown tensor type": (lambda g: g.RawGguf(tensors=[g.RawTensor(kind=4242)]), "unknown type 4,242"),
        "tensor type given up": (lambda g: g.RawGguf(tensors=[g.RawTensor(kind=4)]), "type Q4_2"),
        "misaligned offset": (lambda g: g.RawGguf(tensors=[g.RawTensor(offset=16)]), "no multiple of 32"),
        "offset beyond the file": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(offset=2**63)]),
            "'t': ends at byte",
        ),
        "overlapping tensors": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(b"a"), g.RawTensor(b"b", offset=224)], data=bytes(512)),
            "'b': overlaps tensor 'a'",
        ),
        "data cut short": (
            lambda g: g.RawGguf(tensors=[g.RawTensor()], data=bytes(255)),
            r"incomplete, [\d,]+ of [\d,]+ bytes: tensor 't' ends at byte",
        ),
        "padding cut short": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(3, 2))], data=bytes(31)),
            "end of file: is cut off within the padding",
        ),
        "row that ends inside a block": (
            lambda g: g.RawGguf(tensors=[g.RawTensor(dims=(33, 2), kind=2)]),
            "33 is no multiple of Q4_0 blocks of 32",
        ),
    }


@pytest.mark.parametrize("name", cases())
def test_a_broken_header_is_refused(tmp_path: Path, name: str) -> None:
    build, message = cases()[name]
    path = tmp_path / "bad.gguf"
    path.write_bytes(build(raw).build())
    tracemalloc.start()
    start = time.thread_time()  # what other programs take is no fault of it
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_header(path)
    elapsed = time.thread_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert elapsed < 2, "a bound check that hangs"
    assert peak < 4 << 20
    with pytest.raises(ModelFormatError):
        open_checkpoint(path)


def test_empty_but_valid_files_load(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    for version in (2, 3):
        for data in (b"", bytes(8), bytes(256)):
            path.write_bytes(raw.RawGguf(version=version, data=data).build())
            header = read_header(path)
            assert (header.version, dict(header.metadata), dict(header.tensors)) == (version, {}, {})
    path.write_bytes(raw.RawGguf().build()[:24])  # nothing behind the counts, not even padding
    assert read_header(path).version == 3
    with pytest.raises(ModelFormatError, match=r"general\.architecture"):
        open_checkpoint(path)


def test_every_value_type_is_read(tmp_path: Path) -> None:
    values = {
        0: 200,
        1: -3,
        2: 60000,
        3: -300,
        4: 1 << 31,
        5: -5,
        6: 0.5,
        7: True,
        10: 1 << 63,
        11: -(1 << 62),
        12: 0.1,
    }
    pairs = [raw.pair(f"scalar{kind}", kind, value) for kind, value in values.items()]
    pairs += [raw.pair(f"array{kind}", ARRAY, (kind, [value] * 3)) for kind, value in values.items()]
    pairs += [
        raw.pair("text", STRING, b"caf\xc3\xa9 \xff"),
        raw.pair("texts", ARRAY, (STRING, [b"a", b"", b"\xff"])),
    ]
    pairs += [raw.pair("none", ARRAY, (STRING, [])), raw.pair("general.alignment", U32, 64)]
    path = tmp_path / "values.gguf"
    path.write_bytes(raw.RawGguf(pairs, [raw.RawTensor()], alignment=64).build())
    header = read_header(path)
    for kind, value in values.items():
        assert header.metadata[f"scalar{kind}"] == value
        assert type(header.metadata[f"scalar{kind}"]) is type(value)
        assert header.metadata[f"array{kind}"].tolist() == [value] * 3
    assert header.metadata["text"] == "café \udcff"
    assert header.metadata["texts"] == ["a", "", "\udcff"]
    assert header.metadata["none"] == []
    assert header.alignment == 64
    assert header.tensors["t"].offset % 64 == 0
    assert header.raw(header.tensors["t"]).shape == (2, 128)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("missing", "cannot be opened"),
        ("empty", "file is empty"),
        ("pipe", "no regular file"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            open_checkpoint(tmp_path / name)
    with pytest.raises(ModelFormatError, match=r"neither config\.json"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelFormatError, match="cannot be opened"):
        open_checkpoint(Path("a\0b"))


def test_names_in_messages_are_harmless(tmp_path: Path) -> None:
    """A key with an escape sequence and broken UTF-8 reaches the message as ASCII."""
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.RawGguf([raw.pair(b"\x1b[31m\xff" + b"x" * 500, U32, 1)] * 2).build())
    with pytest.raises(ModelFormatError) as caught:
        read_header(path)
    problem = caught.value.problem
    assert problem.isascii()
    assert problem.isprintable()
    assert len(problem) < 200


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    model = model_files.TinyModel(
        dim=32, hidden_dim=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=16, vocab_size=270
    )
    whole = model_files.write_gguf(tmp_path / "m.gguf", model, "Q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    n_header = read_header(tmp_path / "m.gguf").data_start
    # Every 13th length within the header, then every 97th: the slow fuzzer takes them all.
    for length in [
        *range(200),
        *range(200, n_header + 64, 13),
        *range(n_header + 64, len(whole) - 64, 97),
        *range(len(whole) - 64, len(whole)),
    ]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFormatError):
            read_header(path)
