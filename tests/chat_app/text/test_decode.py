"""Bytes as text: each encoding that a pipe may carry gives the same words, and no text is refused."""

from __future__ import annotations

import pytest

from chat_app.text.decode import decode_text

WORDS = "Grüße, naïve café: 100 € – fünf"


# Python's codecs, and what the app calls the encoding.
CODECS = [
    ("utf-8", "UTF-8"),
    ("utf-8-sig", "UTF-8"),
    ("utf-16", "UTF-16"),
    ("utf-16-le", "UTF-16"),
    ("utf-16-be", "UTF-16"),
    ("utf-32", "UTF-32"),
    ("cp1252", "Windows-1252"),
]


@pytest.mark.parametrize(("codec", "name"), CODECS)
def test_the_same_words_in_every_encoding(codec: str, name: str) -> None:
    assert decode_text(WORDS.encode(codec)) == (WORDS, name)


def test_latin_1_is_told() -> None:
    assert decode_text("Grüße".encode("latin-1")) == ("Grüße", "Windows-1252")
    assert decode_text(b"caf\xe9\x81") == ("caf\xe9\x81", "Latin-1")  # Windows-1252 has no 81


@pytest.mark.parametrize("text", ["", "plain", "日本語のテキスト", "a\0b in the middle", "\x1b[31mred"])
def test_utf_8_stays_what_it_is(text: str) -> None:
    assert decode_text(text.encode()) == (text, "UTF-8")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\xff", b"\xff\xfeh", b"\x7fELF\x02\x01\x01\0\xff"]
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it (is|begins)"):
        decode_text(data)
