"""What grows is drawn when it has changed, and only then."""

from __future__ import annotations

from chat_app.tui.growth import Growth


def test_it_is_drawn_once_for_each_state() -> None:
    states = iter([(0, "a"), (0, "a"), (1, "ab"), (1, "ab"), (0, "a")])
    drawn: list[tuple[int, str]] = []
    growth = Growth(lambda: next(states), drawn.append)
    for _ in range(5):
        growth.look()
    assert drawn == [(0, "a"), (1, "ab"), (0, "a")]


def test_a_state_of_nothing_is_drawn_too() -> None:
    drawn: list[str] = []
    Growth(lambda: "", drawn.append).look()
    assert drawn == [""]
