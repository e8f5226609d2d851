"""Turns that become a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from chat_app.chat.conversation import add_turn
from chat_app.engines.base import Turn


def with_user_turn(turns: Sequence[Turn], text: str) -> tuple[Turn, ...]:
    """`turns` and a question (see `add_turn`)."""
    found = list(turns)
    add_turn(found, Turn("user", text))
    return tuple(found)


def sees_from(turns: Sequence[Turn]) -> str:
    """The id of the first message in these turns, the system prompt aside; "" where there is none."""
    return next((turn.id for turn in turns if turn.role != "system"), "")
