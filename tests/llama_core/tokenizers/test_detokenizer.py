"""Streaming never shows half a character and ends with what `decode` gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llama_core.tokenizers.detokenizer import Utf8Stream

# Every way to be broken: stray continuation, overlong, surrogate, beyond U+10FFFF, cut short.
BROKEN = [
    b"\x80",
    b"\xc0\xaf",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98",
    b"\xff",
]
PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(BROKEN),
    st.text(max_size=3).map(lambda t: t.encode("utf-8", "replace")),
)


@given(pieces=st.lists(PIECES, max_size=30))
def test_joined_stream_equals_decode(pieces: list[bytes]) -> None:
    stream = Utf8Stream(pieces.__getitem__)
    text = "".join(map(stream.push, range(len(pieces)))) + stream.flush()
    assert text == b"".join(pieces).decode("utf-8", "replace")


@given(text=st.text(max_size=20))
def test_a_character_appears_with_its_last_byte(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    data = text.encode()
    stream = Utf8Stream(lambda i: data[i : i + 1])
    shown = ""
    for i in range(len(data)):
        shown += stream.push(i)
        assert shown == data[: i + 1].decode("utf-8", "ignore")
    assert stream.flush() == ""


def test_flush_reports_an_unfinished_character_once() -> None:
    stream = Utf8Stream([b"\xf0\x9f", b"\x98", b"x"].__getitem__)
    assert (stream.push(0), stream.push(1), stream.flush()) == ("", "", "\ufffd")
    assert (stream.push(2), stream.flush()) == ("x", "")
