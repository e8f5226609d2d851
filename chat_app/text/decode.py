"""Bytes from outside as text: in UTF-8, or in the encoding that they show. Nothing is damaged in silence."""

from __future__ import annotations

import codecs

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
ZERO_SHARE = 0.3  # of the bytes at every other place, in UTF-16 of European languages
TEXT_CONTROLS = frozenset(b"\t\n\x0b\x0c\r\x1b\x08")


def decode_text(data: bytes) -> tuple[str, str]:
    """(the text, the name of its encoding). A mark at the beginning decides and is no part of the text; then
    UTF-16 without a mark, told by its zeros; then UTF-8; what is left is Windows-1252, of which Latin-1's
    letters are a part. Raises ValueError with a phrase for what is no text at all."""
    for mark, codec, name in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec), name
            except UnicodeDecodeError:
                raise ValueError(f"it begins as {name} does and is not {name} to its end") from None
    wide = _utf16_without_mark(data)
    if wide is not None:
        return wide, "UTF-16"
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        place = error.start
    if any(byte < 32 and byte not in TEXT_CONTROLS for byte in data[: 1 << 16]):
        raise ValueError(f"it is no text (byte {place:,} is not UTF-8, and there are control codes in it)")
    try:
        return data.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1"


def _utf16_without_mark(data: bytes) -> str | None:
    """The text of UTF-16 that begins without a mark, or None where it is none."""
    start = data[: 1 << 16]
    if len(data) % 2 or not start:
        return None
    even, odd = (start[first::2].count(0) / (len(start) / 2) for first in (0, 1))
    for zeros, others, codec in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > ZERO_SHARE and others < zeros / 10:
            try:
                return data.decode(codec)
            except UnicodeDecodeError:
                return None
    return None
