"""Tokens of attachments, and their share of the context."""

from __future__ import annotations

from chat_app.attachments.attachment import Attachment
from chat_app.attachments.sizes import Size, sizes_of

FILES = (Attachment("a.txt", "/a", "x" * 10), Attachment("b.txt", "/b", "é" * 6))


def test_lines() -> None:
    assert Size("a", 1).line == "a · 1 token"
    assert Size("a", 1204, 3880).line == "a · 1,204 tokens, 31 % of the 3,880 left"
    assert Size("a", 5000, 3880, about=True).line == "a · about 5,000 tokens: more than the 3,880 left"
    assert Size("\x1b[31m", 2).line.isprintable()
    assert not Size("a", 3880, 3880).fits


def test_counted_or_guessed() -> None:
    counted = sizes_of(FILES, [4, 7], 100)
    assert [one.tokens for one in counted.rows] == [4, 7]
    assert counted.total.line == "2 files · 11 tokens, 11 % of the 100 left"
    guessed = sizes_of(FILES, None, 0)
    assert [(one.tokens, one.about) for one in guessed.rows] == [(3, True), (3, True)]
