"""Random damage to a file: what a bad disk, a bad network or a bad person would do to it."""

from __future__ import annotations

import random
import re
import struct

# Numbers that break careless arithmetic, as they stand in a file.
INTERESTING = [
    struct.pack(code, value)
    for code, values in {
        "<B": (0, 1, 2, 9, 127, 128, 255),
        "<H": (0, 1, 255, 32767, 32768, 65535),
        "<I": (0, 1, 2, 8, 13, 30, 255, 256, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
        "<Q": (
            0,
            1,
            63,
            64,
            65,
            1 << 20,
            1 << 31,
            1 << 32,
            1 << 40,
            (1 << 61) + 1,
            (1 << 63) - 1,
            1 << 63,
            (1 << 64) - 1,
        ),
        "<f": (0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38),
    }.items()
    for value in values
]
# What may stand for a number, a string or a value in JSON.
JSON_PIECES = [
    *(
        b"0",
        b"-1",
        b"1",
        b"2",
        b"1e999",
        b"-1e999",
        b"1e-400",
        b"NaN",
        b"Infinity",
        b"18446744073709551616",
        b"1" * 400,
    ),
    *(
        b"true",
        b"false",
        b"null",
        b'""',
        b'"a"',
        b'"\\ud800"',
        b'"\\u0000"',
        b"[]",
        b"{}",
        b"[" * 2000,
        b'{"a":' * 2000,
    ),
    *(b"[[]]", b'{"a": 1}', b'"F32"', b'"F16"', b'"I64"', b'"U8"', b"[0,0]", b"[0, 16]", b"\xff", b"\x00"),
    *(b",", b":", b'"', b"\\"),
]
JSON_VALUE = re.compile(rb'-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null|"(?:[^"\\]|\\.)*"')


def mutate(rng: random.Random, content: bytes, header: int, *, json_text: bool = False) -> bytes:
    """One to six random changes, most of them within the first `header` bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            break
        limit = len(data) if rng.random() < 0.15 else min(header, len(data))
        if json_text and rng.random() < 0.6:
            _change_json(rng, data, limit)
        else:
            rng.choice(CHANGES)(rng, data, rng.randrange(limit))
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] = rng.randrange(256)


def _number(rng: random.Random, data: bytearray, at: int) -> None:
    piece = rng.choice(INTERESTING)
    data[at : at + len(piece)] = piece[: len(data) - at]


def _delete(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.choice((1, 2, 4, 8, 16, 100, 1000))]


def _insert(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = rng.choice((rng.choice(INTERESTING), rng.randbytes(rng.randrange(1, 40))))


def _repeat(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + rng.choice((1, 4, 8, 24, 200))]


def _copy(rng: random.Random, data: bytearray, at: int) -> None:
    source, n = rng.randrange(len(data)), rng.choice((1, 4, 8, 24))
    piece = data[source : source + n]
    data[at : at + len(piece)] = piece


def _cut(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at:]


def _zeros(rng: random.Random, data: bytearray, at: int) -> None:
    n = rng.choice((4, 8, 64, 512))
    data[at : at + n] = bytes(len(data[at : at + n]))


CHANGES = (
    _flip,
    _flip,
    _set,
    _number,
    _number,
    _number,
    _number,
    _delete,
    _insert,
    _repeat,
    _copy,
    _cut,
    _zeros,
)


def _change_json(rng: random.Random, data: bytearray, limit: int) -> None:
    """Put something else in the place of a value or a key."""
    at = rng.randrange(limit)
    found = JSON_VALUE.search(data, at) or JSON_VALUE.search(data)
    if found is None:
        return
    if rng.random() < 0.3:  # a value from elsewhere in the text
        other = JSON_VALUE.search(data, rng.randrange(limit))
        piece = other.group() if other else b"0"
    else:
        piece = rng.choice(JSON_PIECES)
    data[found.start() : found.end()] = piece
