"""Masks: which tokens may come next, by brute force over the bytes, and what vocabularies are odd in."""

from __future__ import annotations

import json
import os.path
import re
from typing import Any

import numpy as np
import pytest

from llama_core.constraints.grammar import JSON_OBJECT, Grammar
from llama_core.constraints.guidance import GuidanceGrammars
from llama_core.constraints.masks import masks_along
from llama_core.errors import GrammarError
from tests.support.word_tokenizer import WordTokenizer

pytest.importorskip("llguidance")

# All bytes; a word twice, one that ends within a character, one that holds a marker's text, a marker, an end,
# another end, an id for nothing.
WORDS = [bytes([i]) for i in range(256)] + ["yes", "no", "yes", "ye", b"\xc3", "<|call|>", "", "", "", ""]
CALL, EOS, END, NOTHING = 262, 263, 264, 265
SPECIAL = {"<|call|>": CALL, "<|eos|>": EOS, "<|end|>": END}
ENDS = frozenset({EOS, END})
ROWS = 270  # the model has more rows than the tokenizer has tokens


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return WordTokenizer(WORDS, SPECIAL, ENDS)


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> GuidanceGrammars:
    return GuidanceGrammars(tokenizer, ROWS)


@pytest.mark.parametrize("answers", [("yes", "no"), ("yes", "yes!"), ("é", "è"), ("<|call|>", "no")])
def test_a_mask_holds_what_some_answer_goes_on_with(
    tokenizer: Any, grammars: GuidanceGrammars, answers: tuple[str, ...]
) -> None:
    """Every token of every answer, over every way there, against the bytes themselves. What all answers go on
    with is split in one way only."""
    wanted = [answer.encode() for answer in answers]
    open_ = [(b"", grammars.begin(Grammar("regex", "|".join(map(re.escape, answers))), ENDS))]
    seen = 0
    while open_:
        done, constraint = open_.pop()
        mask = constraint.allowed()
        seen += 1
        rests = [answer[len(done) :] for answer in wanted if answer.startswith(done)]
        forced = os.path.commonprefix(rests)  # noqa: RUF071 - of bytes
        assert mask.shape == (ROWS,)
        for token in range(ROWS):
            data = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else b""
            fits = bool(data) and any(answer.startswith(done + data) for answer in wanted)
            fits = fits and (not forced or (forced.startswith(data) and token == mask.argmax()))
            assert mask[token] == (fits or (token in ENDS and done in wanted)), (done, token)
            if fits:
                after = constraint.copy()
                after.take(token)
                longer = any(
                    len(answer) > len(done + data) for answer in wanted if answer.startswith(done + data)
                )
                assert after.complete == (not longer)
                if not after.complete:
                    open_.append((done + data, after))
    assert seen >= 2


def test_masks_along_a_draft_are_those_of_each_place(grammars: GuidanceGrammars, tokenizer: Any) -> None:
    constraint = grammars.begin(JSON_OBJECT, ENDS)
    text = tokenizer.encode('{"a": [1, 2')
    masks = masks_along(constraint, text)
    assert len(masks) == len(text) + 1
    for token, mask in zip([*text, 0], masks, strict=True):
        assert np.array_equal(constraint.allowed(), mask)
        if token:
            constraint.take(token)
    # No mask stands behind what is not allowed, what completes the reply, or its end.
    assert len(masks_along(constraint, tokenizer.encode("]x}"))) == 2
    assert len(masks_along(constraint, tokenizer.encode("]}"))) == 2
    whole = grammars.begin(Grammar("regex", "a*"), ENDS)
    assert len(masks_along(whole, [ord("a"), END, ord("a")])) == 2
    assert whole.allowed()[ord("a")]


def test_a_token_that_is_not_allowed_is_told(grammars: GuidanceGrammars) -> None:
    constraint = grammars.begin(JSON_OBJECT, ENDS)
    with pytest.raises(GrammarError, match="left its grammar"):
        constraint.take(ord("x"))


def test_a_marker_by_name_is_its_token_and_its_text_is_not(
    grammars: GuidanceGrammars, tokenizer: Any
) -> None:
    constraint = grammars.begin(Grammar("grammar", 'start: <|call|> "no"'), ENDS)
    assert np.flatnonzero(constraint.allowed()).tolist() == [CALL]
    constraint.take(CALL)
    assert np.flatnonzero(constraint.allowed()).tolist() == [257]


@pytest.mark.parametrize(
    ("grammar", "sentence"),
    [
        (Grammar("regex", "[a-"), "regular expression cannot be held to.*unclosed"),
        (Grammar("schema", '{"type": "strange"}'), "JSON schema"),
        (Grammar("schema", '{"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}'), "JSON schema"),
        (Grammar("schema", "nonsense"), "JSON schema"),
        (Grammar("grammar", "start: nowhere"), "grammar cannot be held to"),
        (Grammar("grammar", 'root ::= "a'), "grammar is not one"),
    ],
)
def test_a_grammar_that_cannot_be_held_is_a_sentence(
    grammars: GuidanceGrammars, grammar: Grammar, sentence: str
) -> None:
    with pytest.raises(GrammarError, match=sentence) as raised:
        grammars.begin(grammar, ENDS)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_llama_cpps_notation_is_read(grammars: GuidanceGrammars, tokenizer: Any) -> None:
    constraint = grammars.begin(Grammar("grammar", 'root ::= item+\nitem ::= "- " [a-z]+ "\\n"\n'), ENDS)
    for token in tokenizer.encode("- yes\n- no\n"):
        assert constraint.allowed()[token]
        constraint.take(token)
    assert constraint.allowed()[END]


def test_where_no_token_goes_on_a_sentence_says_so() -> None:
    poor: Any = WordTokenizer(["a", "b"])
    constraint = GuidanceGrammars(poor, 2).begin(Grammar("regex", "ac"), frozenset())
    assert constraint.allowed().tolist() == [True, False]
    constraint.take(0)
    with pytest.raises(GrammarError, match="no token of this model"):
        constraint.allowed()


def test_a_model_without_ends_is_complete_when_nothing_may_follow() -> None:
    poor: Any = WordTokenizer(["a", "b"])
    constraint = GuidanceGrammars(poor, 2).begin(Grammar("regex", "ab?"), frozenset())
    constraint.take(0)
    assert not constraint.complete
    assert constraint.allowed().tolist() == [False, True]
    constraint.take(1)
    assert constraint.complete


def test_a_tokenizer_that_puts_a_space_first_is_not_asked_for_splits() -> None:
    class Spaced(WordTokenizer):
        def encode(self, text: str, *, special: bool = False) -> list[int]:
            return super().encode(" " + text)

    spaced: Any = Spaced(["a", "b", "ab", " ab", " "])
    constraint = GuidanceGrammars(spaced, 5).begin(Grammar("regex", "abab"), frozenset())
    for _ in range(2):
        assert np.flatnonzero(constraint.allowed()).tolist() == [2]
        constraint.take(2)
    assert constraint.complete


def test_json_of_any_form_is_reached_and_nothing_else(grammars: GuidanceGrammars, tokenizer: Any) -> None:
    """Random walks under the mask end in JSON objects, when they end."""
    rng = np.random.default_rng(4)
    objects = 0
    for _ in range(30):
        constraint = grammars.begin(JSON_OBJECT, ENDS)
        ids: list[int] = []
        while not constraint.complete and len(ids) < 400:
            mask = constraint.allowed()
            closing = [i for i in b'"}]:{' if mask[i]]
            free = np.flatnonzero(mask)
            token = int(rng.choice(closing if closing and rng.random() < 0.8 else free))
            constraint.take(token)
            ids.append(token)
        if constraint.complete:
            text = b"".join(tokenizer.token_bytes(i) for i in ids).decode()
            assert isinstance(json.loads(text), dict)
            objects += 1
    assert objects > 10
