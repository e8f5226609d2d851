"""Turns that become a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chat_app.engines.base import Turn


def with_user_turn(turns: Sequence[Turn], text: str) -> tuple[Turn, ...]:
    """`turns` and a question; joined to the turn before where that is the user's too."""
    if turns and turns[-1].role == "user":
        return (*turns[:-1], replace(turns[-1], content=f"{turns[-1].content}\n\n{text}"))
    return (*turns, Turn("user", text))


def sees_from(turns: Sequence[Turn]) -> str:
    """The id of the first message in these turns, the system prompt aside; "" where there is none."""
    return next((turn.id for turn in turns if turn.role != "system"), "")
