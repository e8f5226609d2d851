"""How likely the tokens of replies were: kept with the reply, and how much of it a branch takes over."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from chat_app.chat.conversation import Message
from chat_app.chat.reply import GrowingReply
from chat_app.chat.token_scores import NOWHERE, ScoredText, TokenScores, scored_text
from chat_app.engines.base import Prompt
from chat_app.store.records import from_json, from_row, to_json, to_row
from llama_core.events import UNKNOWN_ID, Event, Finished, TextDelta, Timings, TokenEvent

SCORES = TokenScores((-0.1, -0.2, -0.3), (2, 3, 3))
PIECES = (ScoredText("It", -0.1, 0), ScoredText(" is", -0.2, 1), ScoredText(" so", -0.3, 2))


def message(content: str, **x: Any) -> Message:
    return Message("m", None, "assistant", content, "", "complete", x)


def growing(begun: Message, prompt_ids: tuple[int, ...] | None, begun_n: int, *events: Event) -> GrowingReply:
    reply = GrowingReply(1, begun, {}, prompt=Prompt((), prompt_ids, begun_n=begun_n))
    for event in events:
        reply.take(event)
    return reply


def said(*words: tuple[str, float, bool], first_id: int = 10) -> list[Event]:
    """Tokens one after the other: (text, logprob, of the thought)."""
    events: list[Event] = []
    for index, (text, logprob, thought) in enumerate(words):
        events.append(TokenEvent(index, first_id + index, logprob, 0.0, index, thought=thought))
        events += [TextDelta(text, thought=thought)] if text else []
    return events


def done(reply: GrowingReply, n: int) -> Message:
    reply.take(Finished("stop", Timings(0, 1, 0.0, n, 0.0, 0.0), 7, tuple(range(10, 10 + n))))
    return reply.ended()


def test_a_beginning_is_known_as_far_as_it_is_the_same() -> None:
    same = SCORES.begun("It is", 2, 2)
    assert same == TokenScores((-0.1, -0.2), (2, 3))
    other = SCORES.begun("It was", 1, 2)
    assert other.pieces("It was", 0)[0] == PIECES[0]
    last = other.pieces("It was", 0)[1]
    assert (last.text, last.at) == (" was", 1)
    assert math.isnan(last.logprob)


def test_of_several_tokens_nobody_knows_where_each_begins() -> None:
    last = SCORES.begun("It was not", 1, 3).pieces("It was not", 0)[1]
    assert (last.text, last.at) == (" was not", NOWHERE)
    assert TokenScores().begun("", 0, 0) == TokenScores()


def test_text_that_was_held_back_belongs_to_the_last_token() -> None:
    """The third token's text came with the fourth: a cut between them has it."""
    held = TokenScores((-0.1, -0.2, -0.3), (2, 0, 6))
    assert held.begun("It is", 2, 2) == TokenScores((-0.1, -0.2), (2, 3))


def test_words_of_which_nothing_was_known_are_those_of_the_tokens_they_became() -> None:
    scores = TokenScores(lead=5).begun("It is", 2, 2).then([-0.3], [3])
    begun, rest = scores.pieces("It is so", 0)
    assert (begun.text, begun.at, rest) == ("It is", NOWHERE, ScoredText(" so", -0.3, 2))


def test_a_text_shorter_than_its_tokens_tells_of_none() -> None:
    assert SCORES.begun("I", 2, 2).pieces("I", 0) == (ScoredText("I", pytest.approx(math.nan, nan_ok=True)),)


def test_a_reply_comes_back_from_disk_with_its_numbers() -> None:
    events = said(("hm", -1.0, True), ("It", -0.123456, False), ("", -0.5, False), (" é", -0.25, False))
    reply = done(growing(message(""), (1, 2), 0, *events), 4)
    # A character of two tokens came only where both did.
    expected = (ScoredText("It", -0.1235, 1), ScoredText(" é", -0.75, 2))
    assert scored_text(reply) == expected
    for record in (from_row(to_row(reply)), from_json(to_json(reply), "m")):
        assert record is not None
        assert record.intact
        assert scored_text(record.message) == expected


def test_a_reply_that_is_cut_off_has_the_numbers_of_what_is_there() -> None:
    reply = growing(message(""), (1, 2), 0, *said(("It", -0.1, False), (" is", -0.2, False)))
    for state in (reply.stopped(), reply.failed("no memory"), reply.checkpoint(10.0)):
        assert state is not None
        assert scored_text(state) == PIECES[:2]


def test_a_reply_that_goes_on_keeps_them() -> None:
    """But for the end token, which is no longer there."""
    first = message("It is", ids=[5, 6], logprobs=[-0.1, -0.2, -0.01], chars=[2, 3, 0])
    reply = growing(first, (1, 2, 5, 6), 2, *said((" so", -0.3, False)))
    assert scored_text(done(reply, 1)) == PIECES
    assert reply.ended().x["ids"] == [5, 6, 10]


def test_what_another_model_reads_in_its_own_tokens_is_not_known() -> None:
    first = message("It is", ids=[5, 6], logprobs=[-0.1, -0.2], chars=[2, 3])
    reply = growing(first, (1, 2, 7, 8, 9), 3, *said((" so", -0.3, False)))
    begun, rest = scored_text(done(reply, 1))
    assert (begun.text, begun.at, rest) == ("It is", NOWHERE, ScoredText(" so", -0.3, 3))
    assert math.isnan(begun.logprob)
    assert reply.ended().x["ids"] == [7, 8, 9, 10], "the tokens that the reply goes on from"


def test_an_engine_elsewhere_counts_on() -> None:
    first = message("It is", ids=[], logprobs=[-0.1, -0.2], chars=[2, 3])
    events = [TokenEvent(0, UNKNOWN_ID, -0.3, 0.0, 0), TextDelta(" so")]
    reply = growing(first, None, 0, *events)
    assert scored_text(reply.stopped()) == PIECES
    assert reply.begun_n == 2


def test_words_written_by_hand_are_before_the_first_token() -> None:
    reply = growing(message("Well: "), None, 0, TokenEvent(0, UNKNOWN_ID, -0.3, 0.0, 0), TextDelta("so"))
    begun, rest = scored_text(reply.stopped())
    assert (begun.text, begun.at, rest) == ("Well: ", NOWHERE, ScoredText("so", -0.3, 0))


@pytest.mark.parametrize(
    "x",
    [
        {},
        {"logprobs": [-0.1], "chars": [2, 3]},
        {"logprobs": [-0.1, -0.2], "chars": [2, 30]},
        {"logprobs": "damaged", "chars": [5]},
        {"logprobs": [None, None], "chars": [2, 3]},
    ],
)
def test_nothing_is_told_of_a_record_without_numbers_that_fit(x: dict[str, Any]) -> None:
    assert scored_text(message("It is", **x)) == ()


@pytest.mark.parametrize("damaged", [[-0.1, "x"], [True], {"a": 1}, [[0]], [0.5], [-(10**400)]])
def test_damaged_numbers_are_taken_out_when_a_record_is_read(damaged: Any) -> None:
    stored = message("It", logprobs=damaged, chars=[2])
    record = from_json(to_json(stored), "m")
    assert record is not None
    assert record.message == replace(stored, x={"chars": [2]})
