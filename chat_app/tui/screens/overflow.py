"""The context is full: said before anything is sent, and the user chooses."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from chat_app.chat.view import Room
from chat_app.engines.base import Prompt
from chat_app.tui.key_words import with_keys
from chat_app.tui.screens.dialog import Dialog


class OverflowScreen(Dialog[Room]):
    """Dismissed with a way to make room; None: do not send."""

    AUTO_FOCUS = "Button"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "choose('compact')", "Summarise", id="overflow.compact"),
        Binding("d", "choose('drop')", "Leave out", id="overflow.drop"),
        Binding("p", "choose('part')", "A part of the files", id="overflow.part"),
        Binding("f", "choose('digest')", "Summarise the files", id="overflow.digest"),
        Binding("m", "choose('raise')", "More context", id="overflow.raise"),
        Binding("s", "choose('stop')", "Do not send", id="overflow.stop"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-wide")]  # noqa: RUF012 - Textual declares it so

    def __init__(self, plan: Prompt, larger: int, files_n: int = 0) -> None:
        """larger: a context in which it would fit, 0 where there is none. files_n: how many files are
        attached to what is asked."""
        super().__init__()
        self._plan = plan
        self._ways: dict[Room, tuple[str, str]] = {}
        if files_n:
            files = "the file" if files_n == 1 else f"each of the {files_n} files"
            self._ways["part"] = (
                "A part",
                f"Of {files} only the beginning is sent.",
            )
            self._ways["digest"] = (
                "Summarise files" if files_n > 1 else "Summarise file",
                "Piece by piece, the model writes a summary, which you can edit.",
            )
        if plan.drop:
            n = len(plan.drop)
            turns = f"{n} oldest turn{'s' if n > 1 else ''}"
            self._ways["compact"] = (
                "Summarise",
                "The model writes a summary of the older turns, which you can edit. A new branch follows.",
            )
            self._ways["drop"] = (
                "Leave out",
                f"The {turns} can be left out of what the model reads, now and from here on.",
            )
        if larger:
            self._ways["raise"] = (
                "More context",
                f"The model can be loaded with a context of {larger:,} tokens, which takes more memory.",
            )

    def compose(self) -> ComposeResult:
        """What is needed, what fits, and what would help."""
        plan = self._plan
        needed = f"{plan.prompt_n:,} tokens of prompt and {plan.reply_n:,} for the reply"
        with Vertical(classes="dialog -wide"):
            yield Static(Content("The conversation no longer fits into the context"), classes="dialog-title")
            about = [f"{label}: {text}" for label, text in self._ways.values()]
            if not {"drop", "part"} & self._ways.keys():
                about.append(
                    "The message alone is too long. Shorten it, or ask for a shorter reply: "
                    "/set parameter num_predict N."
                )
            about.append("The system prompt and the transcript stay.")
            needs = f"It needs {needed}; the model's context holds {plan.limit:,}.\n\n"
            with VerticalScroll(classes="dialog-body"):
                yield Static(Content(needs + "\n".join(f"· {text}" for text in about)))
            with Grid(classes="dialog-buttons"):
                labels = {way: label for way, (label, _) in self._ways.items()} | {"stop": "Do not send"}
                for place, (way, label) in enumerate(labels.items()):
                    label = with_keys(self, f"{label} ({{overflow.{way}}})")
                    yield Button(Content(label), variant="default" if place else "primary", id=way)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Close with the way of the button."""
        self.action_choose(event.button.id or "")

    def action_choose(self, way: str) -> None:
        """Close with the way of the key, where it would help."""
        if way in self._ways or way == "stop":
            self.dismiss(next((one for one in self._ways if one == way), None))
