"""What a chat's session asks of a screen, so that it can be tested without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from chat_app.chat.conversation import Message

Severity = Literal["information", "warning", "error"]


class ChatView(Protocol):
    """What the session asks of a screen. Texts are from outside: the view makes them inert."""

    def show_chat(self) -> None:
        """Another chat or branch: draw `session.path()` anew."""

    def show_message(self, message: Message) -> None:
        """A message at the end."""

    def update_message(self, message: Message) -> None:
        """A message shown before has another status, or is saved now."""

    def add_text(self, message_id: str, text: str) -> None: ...
    def show_queue(self, prompts: list[str]) -> None: ...
    def show_trouble(self, text: str | None) -> None: ...
    def show_state(self) -> None:
        """The model, or whether the engine is busy, changed."""

    def show_load_failure(self, path: Path, text: str) -> None:
        """A model could not be loaded: say why, and offer another."""

    def note(self, text: str, severity: Severity = "information") -> None: ...
    def give_back(self, text: str) -> None:
        """A prompt that was not sent."""

    async def ask_overflow(self, plan: Any) -> bool:
        """The prompt does not fit: True to drop the oldest turns, False to stop."""
