"""The context is full: said before anything is sent, and the user chooses."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from chat_app.engines.base import Prompt
from chat_app.tui.screens.dialog import Dialog


class OverflowScreen(Dialog[bool]):
    """True: leave out the oldest turns. False or None: do not send."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "choose(True)", "Leave out", id="overflow.drop"),
        Binding("s", "choose(False)", "Do not send", id="overflow.stop"),
    ]

    def __init__(self, plan: Prompt) -> None:
        super().__init__()
        self._plan = plan

    def compose(self) -> ComposeResult:
        """What is needed and what fits; the button to leave out turns only where that helps."""
        plan = self._plan
        needed = f"{plan.prompt_n:,} tokens of prompt and {plan.reply_n:,} for the reply"
        with Vertical(classes="dialog"):
            yield Static(Content("The conversation no longer fits into the context"), classes="dialog-title")
            yield Static(Content(f"It needs {needed}; the model's context holds {plan.limit:,}.\n"))
            if plan.drop:
                turns = f"{len(plan.drop)} oldest turn{'s' if len(plan.drop) > 1 else ''}"
                yield Static(
                    Content(
                        f"The {turns} can be left out of what the model reads, now and from here on. "
                        "The system prompt and the transcript stay."
                    )
                )
            else:
                yield Static(
                    Content(
                        "The message alone is too long. Shorten it, or give the model more room: "
                        "/set parameter num_ctx N, or /set parameter num_predict N for a shorter reply."
                    )
                )
            with Horizontal(classes="dialog-buttons"):
                if plan.drop:
                    yield Button(f"Leave out the {turns}", variant="primary", id="drop")
                yield Button("Do not send", id="stop")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Close with True only for the button that leaves out turns."""
        self.dismiss(event.button.id == "drop")

    def action_choose(self, drop: bool) -> None:
        """Close with the answer of the key; True only where leaving out turns helps."""
        self.dismiss(drop and bool(self._plan.drop))
