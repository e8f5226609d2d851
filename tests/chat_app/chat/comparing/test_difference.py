"""Where two replies part, whatever their tokens are."""

from __future__ import annotations

import math

import pytest

from chat_app.chat.comparing.candidate import Said
from chat_app.chat.comparing.difference import Difference, first_difference
from llama_core.events import UNKNOWN_ID, Spelled, TokenEvent


def said(*texts: str) -> list[Said]:
    return [Said(text, -1.0, None) for text in texts]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (("a", " b", " c"), ("a", " b", " d"), Difference((2, 2), (3, 3))),
        (("a",), ("b",), Difference((0, 0), (0, 0))),
        (("a", " b"), ("a",), Difference((1, None), (1, 1))),
        (("ab", "c"), ("a", "bc"), None),
        (("the", " capital"), ("the c", "at"), Difference((1, 1), (3, 5))),
        ((), ("a",), Difference((None, 0), (0, 0))),
        ((), (), None),
    ],
)
def test_the_first_piece_that_differs(
    one: tuple[str, ...], other: tuple[str, ...], found: Difference | None
) -> None:
    assert first_difference(said(*one), said(*other)) == found


def test_what_has_not_come_yet_is_no_difference() -> None:
    assert first_difference(said("a", " b"), said("a"), whole=(True, False)) is None
    assert first_difference(said("a", " b"), said("a"), whole=(False, True)) == Difference((1, None), (1, 1))
    assert first_difference(said("a", " b"), said("a", " c"), whole=(False, False)) is not None


def test_what_one_gave_to_the_others_word() -> None:
    ours = Said(" a", -0.5, TokenEvent(0, 7, -0.5, 0.0, 1, top=((7, -0.5), (9, -2.0))))
    theirs = Said(" b", -0.1, TokenEvent(0, 9, -0.1, 0.0, 1))
    assert ours.share_of(theirs) == pytest.approx(math.exp(-2.0))
    assert theirs.share_of(ours) is None, "it told no alternatives"
    spelled = Spelled(" a", b" a", ((" a", b" a", -0.5), (" b", b" b", -1.5)))
    told = Said(" a", -0.5, TokenEvent(0, UNKNOWN_ID, -0.5, 0.0, 1, spelled=spelled))
    other = Said(" b", -0.5, TokenEvent(0, UNKNOWN_ID, -0.5, 0.0, 1))
    assert told.share_of(other) == pytest.approx(math.exp(-1.5))
    assert told.share_of(Said(" c", -0.5, other.token)) is None
