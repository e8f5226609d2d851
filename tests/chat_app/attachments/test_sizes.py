"""Tokens of attachments, and their share of the context."""

from __future__ import annotations

from chat_app.attachments.attachment import Attachment
from chat_app.attachments.sizes import LEAST_SUMMARY, Size, beginnings, sizes_of, to_summarise

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


def test_beginnings_keep_their_share_to_the_end_of_a_line() -> None:
    file = Attachment("a", "/a", "one line\n" * 100)
    found = beginnings([file, file], 400, 180)
    assert found is not None
    for one in found:
        assert one.cut
        assert one.text == ("one line\n" * len(one.text.splitlines())).rstrip("\n")
        assert 0.4 < len(one.text) / len(file.text) < 0.5
    assert beginnings([file], 100, 95) is None
    (line,) = beginnings([Attachment("a", "/a", "x" * 100)], 100, 50) or ()
    assert 30 < len(line.text) < 50


def test_a_summary_is_shortened_where_one_stands_for_the_text() -> None:
    (found,) = beginnings([Attachment("a", "/a", "text", summary="one line\n" * 100)], 400, 200) or ()
    assert (found.text, found.cut) == ("text", False)
    assert 300 < len(found.summary) < 450


def test_the_fewest_files_are_summarised_the_largest_first() -> None:
    files = [Attachment(name, f"/{name}", "text") for name in "abc"]
    sizes = sizes_of(files, [1000, 100, 3000], 0)
    (one,) = to_summarise(files, sizes, 2000)
    assert (one.at, one.file) == (2, files[2])
    assert 900 < one.room_n < 1000
    both = to_summarise(files, sizes, 3000)
    assert [one.at for one in both] == [0, 2]
    assert sum(one.room_n for one in both) < 1000
    assert LEAST_SUMMARY < both[0].room_n < both[1].room_n
    assert to_summarise(files, sizes, 4090) == []
