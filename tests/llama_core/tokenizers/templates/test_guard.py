"""A marked message cannot take part in a special token, whatever text stands around it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_core.tokenizers.templates.guard import KNOWN_ROLES, Guard, unused_character

MARK = "\ufdd0"
# Few letters, so that tokens overlap each other and themselves.
WORD = st.text("ab<", min_size=2, max_size=5)
TEXT = st.text("ab< ", max_size=8)


@given(tokens=st.lists(WORD, min_size=1, max_size=4), before=TEXT, message=TEXT, after=TEXT)
@example(tokens=["aba"], before="", message="ababa", after="")
@example(tokens=["<ab<"], before="<a", message="b", after="<")
def test_no_token_touches_the_message(tokens: list[str], before: str, message: str, after: str) -> None:
    marked = Guard(tokens).mark_text(message, MARK)
    assert marked.replace(MARK, "") == message
    for text in (message, message.strip()):
        marked = Guard(tokens).mark_text(text, MARK)
        for shown in (marked, marked.strip()):
            if not shown:
                continue
            whole = before + shown + after
            for token in tokens:
                start = whole.find(token)
                while start >= 0:
                    assert start + len(token) <= len(before) or start >= len(before) + len(shown)
                    start = whole.find(token, start + 1)


def test_ordinary_words_are_left_alone() -> None:
    guard = Guard(["<|im_end|>", "</s>"])
    for text in ("What is 1 < 2?", "a</b>", "</think>", "", "  ", "x > y", "the end."):
        assert guard.mark_text(text, MARK) == text


def test_roles_that_programs_choose_are_left_alone() -> None:
    guard = Guard(["<|user|>", "<|system|>"])
    for role in KNOWN_ROLES:
        assert guard.mark_messages([{"role": role, "content": "x"}], MARK) == [{"role": role, "content": "x"}]
    assert MARK in guard.mark_messages([{"role": "use", "content": ""}], MARK)[0]["role"]


@pytest.mark.parametrize("taken", ["", "\ufdd0", "".join(map(chr, range(0xFDD0, 0xFDF0)))])
def test_the_mark_occurs_nowhere_else(taken: str) -> None:
    mark = unused_character(["abc", taken, ""])
    assert len(mark) == 1
    assert mark not in taken
