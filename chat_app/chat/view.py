"""What the controller asks of whoever shows a chat: a screen, a line of text, a test."""

from __future__ import annotations

from typing import Literal, Protocol

from chat_app.chat.conversation import Message
from chat_app.chat.summary import SummaryDraft
from chat_app.engines.base import Prompt, Source
from llama_core.events import Event

Severity = Literal["information", "warning", "error"]
# Ways to make room in a full context: leave out the oldest turns, summarise them, load the model with more,
# send the beginning of the attached files alone, or a summary of them.
Room = Literal["drop", "compact", "raise", "part", "digest"]


class ChatView(Protocol):
    """Texts are from outside: the view makes them inert."""

    def show_chat(self) -> None:
        """Another chat or branch: draw `controller.path()` anew."""

    def show_message(self, message: Message) -> None:
        """A message at the end."""

    def update_message(self, message: Message) -> None:
        """A message shown before has another status, or is saved now."""

    def add_text(self, message_id: str, text: str) -> None:
        """The reply has grown."""

    def add_thought(self, message_id: str, text: str, tokens: int, seconds: float) -> None:
        """The reply's thought has grown, to so many tokens in so many seconds."""

    def show_event(self, event: Event) -> None:
        """Each event of the reply under way, before its text is added."""

    def show_queue(self, prompts: list[str]) -> None:
        """Prompts that wait for the model or for the end of a reply, oldest first."""

    def show_ahead(self, text: str) -> None:
        """What the engine reads before it is sent, and how far it is, in a few words; "" where nothing is."""

    def show_trouble(self, text: str | None) -> None:
        """The disk fails, or (None) does so no more."""

    def show_state(self) -> None:
        """The model, or whether the engine is busy, changed."""

    def show_load_failure(self, source: Source, text: str, instead: Source | None) -> None:
        """A model could not be loaded: say why. instead: what is loaded now; None: offer another."""

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence for the user."""

    def give_back(self, text: str) -> None:
        """A prompt that was not sent."""

    async def ask_overflow(self, prompt: Prompt, larger: int, files_n: int = 0) -> Room | None:
        """The prompt does not fit: how to make room, None to stop. Turns can be left out or summarised where
        `prompt.drop` names some. larger: a context in which it would fit, 0 where the model has none.
        files_n: how many attached files could be shortened or summarised."""

    async def review_summary(self, draft: SummaryDraft) -> str | None:
        """Show a summary while it is written; returns it, edited perhaps, or None where it is not wanted."""
