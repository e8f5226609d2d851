"""What the chat screen asks of the app that it is at home in."""

from __future__ import annotations

from typing import Protocol

from chat_app.chat.view import Severity
from chat_app.engines.base import Source


class Home(Protocol):
    """The app, as its chat screen sees it."""

    def begin(self) -> None:
        """The first paint is done."""

    def leave(self) -> None:
        """End the app; the chat can be resumed."""

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence in the status row of the screen on top."""

    def name_window(self, title: str) -> None:
        """What the terminal's window is called now."""

    def reply_done(self) -> None:
        """A reply has ended, and no other follows it at once."""

    def remember(self, **values: str) -> None:
        """Keep a choice for the next start."""

    def show_history(self, query: str = "") -> None:
        """Open the list of chats, with `query` typed into its search."""

    def inspect(self, message_id: str, at: int = 0) -> None:
        """Open the token inspector on a reply, by its id, the cursor on its token `at`."""

    def draw_continuations(self, message_id: str, at: int) -> None:
        """Show how a reply, by its id, could go on from its token `at`."""

    # What it knows of models.

    def model_state(self, state: str) -> str:
        """What an empty chat says while no model is loaded."""

    @property
    def offer(self) -> str:
        """A better model for this machine, in a line; empty where there is none."""

    def tell_waiting(self) -> None:
        """Prompts may wait for a model that nobody is loading: say how to get one."""

    def model_failed(self, source: Source, text: str, instead: Source | None) -> None:
        """The model at `source` could not be loaded; `text` says why, `instead` what is loaded now."""
