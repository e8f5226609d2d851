"""A thought is free, the answer behind it is held; markers as tokens and as channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llama_core.constraints.grammar import Grammar
from llama_core.engine.rules import Rules
from llama_core.errors import GrammarError
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.thinking.tags import TagFormat
from tests.support.word_tokenizer import WordTokenizer

pytest.importorskip("llguidance")

WORDS = ["a", "b", "\n", "\n\n", "<think>", "</think>", "<end>", "<user>"]
A, B, LINE, LINES, OPEN, CLOSE, END, USER = range(8)
PARAMS = SamplingParams(grammar=Grammar("regex", "ab"))


class Tagged(WordTokenizer):
    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return [WORDS.index(text)] if text in WORDS else super().encode(text)


@pytest.fixture
def rules() -> Rules:
    tokenizer: Any = Tagged(WORDS, {"<think>": OPEN, "</think>": CLOSE, "<end>": END, "<user>": USER}, {END})
    return Rules(tokenizer, len(WORDS), TagFormat(tokenizer, "<think>", "</think>"))


def allowed(constraint: Any) -> set[int]:
    return set(np.flatnonzero(constraint.allowed()).tolist())


FREE = {A, B, LINE, LINES, OPEN, CLOSE, USER}


def test_a_thought_may_come_first_and_cannot_end_the_reply(rules: Rules) -> None:
    constraint: Any = rules.of(PARAMS, [USER]).constraint
    assert allowed(constraint) == {A, OPEN}
    for token in (OPEN, LINE, B, B, LINE):
        constraint.take(token)
        assert allowed(constraint) == FREE
    twin = constraint.copy()
    twin.take(CLOSE)
    assert allowed(constraint) == FREE, "a copy goes on apart"
    constraint.take(CLOSE)
    assert allowed(constraint) == {A, LINES}
    constraint.take(LINES)
    assert allowed(constraint) == {A}
    constraint.take(A)
    assert not constraint.complete
    constraint.take(B)
    assert constraint.complete
    assert allowed(twin) == {A, LINES}


def test_an_answer_without_a_thought_is_held_from_its_first_token(rules: Rules) -> None:
    constraint: Any = rules.of(PARAMS, [USER]).constraint
    constraint.take(A)
    assert allowed(constraint) == {B}
    with pytest.raises(GrammarError):
        constraint.take(OPEN)


def test_the_prompt_may_open_the_thought_or_have_closed_it(rules: Rules) -> None:
    assert allowed(rules.of(PARAMS, [USER, OPEN, LINE]).constraint) == FREE
    assert allowed(rules.of(PARAMS, [USER, OPEN, LINES, CLOSE, LINES]).constraint) == {A}
    assert allowed(rules.of(PARAMS, [USER, OPEN, LINE], plain=True).constraint) == {A}


def test_a_reply_that_has_begun_goes_on_where_it_stands(rules: Rules) -> None:
    begun = [OPEN, LINE, A, CLOSE, LINES, A]
    assert allowed(rules.of(PARAMS, [USER, *begun], begun_n=len(begun)).constraint) == {B}
    with pytest.raises(GrammarError, match="left its grammar"):
        rules.of(PARAMS, [USER, B], begun_n=1)
