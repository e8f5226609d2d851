"""The footer: six keys, those that matter where the focus is; a click presses one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

PROMPT_KEYS = ("app.help", "app.palette", "chat.new", "chat.history", "chat.reset", "chat.panel")
BUSY_KEYS = ("chat.stop", "app.help", "app.palette", "chat.history", "chat.select_previous", "chat.panel")
THINKING_KEYS = ("chat.answer_now", "chat.stop", "chat.thought", "app.help", "app.palette", "chat.panel")
MESSAGE_KEYS = (
    "message.menu",
    "message.copy",
    "message.edit",
    "message.regenerate",
    "message.branch",
    "message.inspect",
)
TOKEN_KEYS = (
    "tokens.doubtful",
    "tokens.branch",
    "tokens.draw",
    "tokens.inspect",
    "tokens.leave",
    "app.help",
)

Hint = tuple[str, str, str]  # key, label, action
GAP = 2  # between two hints, as in app.tcss
SHORT_LABELS = {"Commands": "Cmds", "Continue": "Go on", "Inspect": "Look", "Select": "Up"}


class KeyHint(Static, can_focus=False):
    """One key and what it does; a click does it."""

    def __init__(self) -> None:
        super().__init__(classes="key-hint")
        self._action = ""

    def show(self, key: str, label: str, action: str) -> None:
        """`key` with the spaces around it; none hides the hint."""
        self._action = action
        self.update(Content.assemble((key, "bold $text-accent"), (label, "$foreground 60%")))
        self.display = bool(key)

    async def on_click(self, event: Click) -> None:
        """Run the action where the focus is, as the key would."""
        if self._action:
            node = self.screen.focused or self.screen
            await self.app.run_action(self._action, node)


class KeyBar(Horizontal, can_focus=False):
    """Reads keys and labels from the bindings themselves, so a remapped key shows as it is."""

    def compose(self) -> ComposeResult:
        """Six places for hints, empty until `show_keys`."""
        for _ in range(6):
            yield KeyHint()

    def show_keys(self, ids: Sequence[str]) -> None:
        """Show the bindings with these ids that are in force now, in this order."""
        found = {
            active.binding.id: active.binding
            for active in self.screen.active_bindings.values()
            if active.binding.id
        }
        shown = [
            (self.app.get_key_display(found[one]), found[one].description, found[one].action)
            for one in ids
            if one in found
        ]
        tight, shown = fit(shown, self.content_size.width)
        for place, hint in enumerate(self.query(KeyHint)):
            if place < len(shown):
                key, label, action = shown[place]
                hint.show(f"{key} " if tight else f" {key} ", label, action)
            else:
                hint.show("", "", "")


def fit(hints: list[Hint], width: int) -> tuple[bool, list[Hint]]:
    """(without a space before each, hints that are whole in `width` cells): shorter labels, then fewer."""
    if width <= 0 or _needs(hints) + len(hints) <= width:
        return False, hints
    if _needs(hints) > width:
        hints = [(key, SHORT_LABELS.get(label, label), action) for key, label, action in hints]
    while hints and _needs(hints) > width:
        hints = hints[:-1]
    return True, hints


def _needs(hints: list[Hint]) -> int:
    """Cells for keys and labels with a space between the two, and GAP between hints."""
    return sum(cell_len(key) + 1 + cell_len(label) for key, label, _ in hints) + GAP * (len(hints) - 1)
