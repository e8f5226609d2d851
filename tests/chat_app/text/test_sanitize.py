"""Outside text becomes inert, one character at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.text.sanitize import clean, clean_line

ANY_TEXT = st.text(st.characters())


def test_controls_are_dropped_but_newline_and_tab_stay() -> None:
    kept = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0)) if clean(chr(c))]
    assert kept == ["\t", "\n"]


def test_an_escape_sequence_loses_its_teeth() -> None:
    assert clean("\x1b]52;c;aGk=\x07\x1b[2Jtext\x9b31m\r\n") == "]52;c;aGk=[2Jtext31m\n"


def test_reordering_and_tag_characters_are_shown() -> None:
    assert clean("a\u202eb\u2066c\U000e0041d") == "a⟨U+202E⟩b⟨U+2066⟩c⟨U+E0041⟩d"


@pytest.mark.parametrize(("first", "last"), [(0x202A, 0x202E), (0x2066, 0x2069), (0xE0000, 0xE007F)])
def test_every_character_of_the_ranges_is_shown(first: int, last: int) -> None:
    for code in range(first, last + 1):
        assert clean(f"a{chr(code)}b") == f"a⟨U+{code:04X}⟩b"


def test_lone_surrogates_can_be_encoded() -> None:
    assert clean("bad\udc80name").encode() == "bad\ufffdname".encode()


def test_ordinary_text_is_untouched() -> None:
    text = "Grüße, 世界 👩‍🚀 [b]markup[/b]\n\tcode"
    assert clean(text) == text


@given(ANY_TEXT, ANY_TEXT)
def test_a_cut_anywhere_changes_nothing(a: str, b: str) -> None:
    assert clean(a + b) == clean(a) + clean(b)


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


def test_one_line() -> None:
    assert clean_line("  two\nlines\u2028and\ttab ") == "two lines and tab"
    assert clean_line("abcdef", 4) == "abc…"
    assert clean_line("abcd", 4) == "abcd"
