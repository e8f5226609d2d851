"""What was seen of replies: of which tokens, and how much of it a branch takes over."""

from __future__ import annotations

import math

from chat_app.chat.reply_records import NOWHERE, REPLIES_KEPT, ReplyRecord, ReplyRecords, ScoredText

PIECES = (ScoredText("It", -0.1, 0), ScoredText(" is", -0.2, 1), ScoredText(" so", -0.3, 2))
RECORD = ReplyRecord([-0.1, -0.2, -0.3], PIECES)


def test_a_part_of_it() -> None:
    assert RECORD.until(2) == ReplyRecord([-0.1, -0.2], PIECES[:2])


def test_a_beginning_is_known_as_far_as_it_was_seen() -> None:
    logprobs, pieces = RECORD.until(1).begun("It was", 2)
    assert logprobs[0] == -0.1
    assert math.isnan(logprobs[1])
    assert pieces[0] == PIECES[0]
    assert (pieces[1].text, pieces[1].at) == (" was", 1)
    assert math.isnan(pieces[1].logprob)


def test_of_several_tokens_nobody_knows_where_each_begins() -> None:
    _, pieces = RECORD.until(1).begun("It was not", 3)
    assert (pieces[1].text, pieces[1].at) == (" was not", NOWHERE)
    assert ReplyRecord().begun("", 0) == ([], [])


def test_the_oldest_makes_room() -> None:
    records = ReplyRecords()
    for n in range(REPLIES_KEPT + 3):
        records.keep(str(n), RECORD)
    assert len(records) == REPLIES_KEPT
    assert records.of("0") == ReplyRecord()
    assert records.of(str(n)) == RECORD
