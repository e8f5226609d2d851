"""A summary that is to stand for older turns or a file: watched while it is written, edited, used or not."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static, TextArea

from chat_app.chat.summary import SummaryDraft
from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.growth import Growth
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog


class CompactScreen(Dialog[str]):
    """Dismissed with the summary, as it was edited; None: it is not used."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "use", "Use it", id="compact.use", priority=True),
    ]

    def __init__(self, draft: SummaryDraft) -> None:
        super().__init__()
        self._draft = draft
        self._growth = Growth(self._state, self._show)

    def compose(self) -> ComposeResult:
        """The summary, and what can be done with it."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content(f"A summary of {clean_line(self._draft.of)}"), classes="dialog-title")
            yield Static("", id="compact-state")
            yield TextArea("", read_only=True, soft_wrap=True, id="compact-text")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Use it", variant="primary", id="use", disabled=True)
                yield Button(self._draft.leave, id="leave")
            yield KeyWords(
                "It can be edited once it is written · {compact.use} uses it · {dialog.close} does not"
            )

    def begin(self) -> None:
        """Watch the draft grow."""
        self._growth.watch(self)

    def _state(self) -> tuple[bool, str, str]:
        draft = self._draft
        ended = draft.done.is_set()  # asked first: all is there then
        return ended, clean(draft.text), _doing(draft)

    def _show(self, state: tuple[bool, str, str]) -> None:
        draft, area = self._draft, self.query_one("#compact-text", TextArea)
        ended, text, doing = state
        if area.text != text:
            area.text = text
            area.scroll_end(animate=False)
        told = self.query_one("#compact-state", Static)
        if not ended:
            told.update(Content(doing))
        elif draft.error or not text:
            told.update(Content(clean(draft.error) or "The model wrote nothing."))
        else:
            told.update(Content(draft.use))
            area.read_only = False
            area.focus()
            self.query_one("#use", Button).disabled = False

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two buttons."""
        if event.button.id == "use":
            self.action_use()
        else:
            self.dismiss(None)

    def action_use(self) -> None:
        """Close with the summary as it stands, once there is one."""
        area = self.query_one("#compact-text", TextArea)
        if not area.read_only and area.text.strip():
            self.dismiss(area.text.strip())


def _doing(draft: SummaryDraft) -> str:
    """What the model does now."""
    read = draft.read
    if read is None:
        return f"The model writes it{f': {draft.step}' if draft.step else ''}…"
    return f"The model reads {draft.step or 'it'}: {read:.0%}…"
