"""The footer: six keys, those that matter where the focus is; a click presses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.dom import DOMNode
from textual.events import Click
from textual.widget import Widget
from textual.widgets import Static

from chat_app.config.key_names import short_key
from chat_app.tui.key_words import declared, first_key
from chat_app.tui.widgets.find_bar import FindBar
from chat_app.tui.widgets.messages.tint import TintedText
from chat_app.tui.widgets.messages.view import MessageView

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
FIND_KEYS = ("find.next", "find.previous", "find.close", "app.help", "app.palette", "chat.panel")
KEYS_OF: dict[type[Widget], tuple[str, ...]] = {
    TintedText: TOKEN_KEYS,
    MessageView: MESSAGE_KEYS,
    FindBar: FIND_KEYS,
}
GAP = 2  # between two hints, as in app.tcss
SHORT_LABELS = {"Commands": "Cmds", "Continue": "Go on", "Inspect": "Look", "Select": "Up"}


class Hint(NamedTuple):
    """A key, what it does in a word or two, the action, and the node that has it."""

    key: str
    label: str
    action: str
    node: DOMNode


class KeyHint(Static, can_focus=False):
    """One key and what it does; a click does it."""

    def __init__(self) -> None:
        super().__init__(classes="key-hint")
        self._hint: Hint | None = None

    def show(self, hint: Hint | None, *, tight: bool = False) -> None:
        """Draw it, without a space before the key where `tight`; None hides it."""
        self._hint = hint
        self.display = hint is not None
        if hint is not None:
            key = f"{hint.key} " if tight else f" {hint.key} "
            self.update(Content.assemble((key, "bold $text-accent"), (hint.label, "$foreground 60%")))

    async def on_click(self, event: Click) -> None:
        """Run the action on the node that has the key, as the key would."""
        if self._hint is not None:
            await self.app.run_action(self._hint.action, self._hint.node)


class KeyBar(Horizontal, can_focus=False):
    """Reads keys and labels from the bindings themselves, so a remapped key shows as it is."""

    def compose(self) -> ComposeResult:
        """Six places for hints, empty until `show_keys`."""
        for _ in range(6):
            yield KeyHint()

    def show_keys(self, ids: Sequence[str]) -> None:
        """Show the bindings with these ids that are in force now, in this order."""
        found = {active.binding.id: active for active in self.screen.active_bindings.values()}
        hints = [
            Hint(
                short_key(first_key(self.app, declared([type(active.node)])[one])),
                active.binding.description,
                active.binding.action,
                active.node,
            )
            for one, active in ((one, found[one]) for one in ids if one in found)
        ]
        tight, shown = fit(hints, self.content_size.width)
        for place, hint in enumerate(self.query(KeyHint)):
            hint.show(shown[place] if place < len(shown) else None, tight=tight)


def keys_of(focused: Widget | None, *, generating: bool, thinking: bool) -> tuple[str, ...]:
    """The keys of what has the focus or holds it; elsewhere those of the prompt, by what the reply does."""
    for node in focused.ancestors_with_self if focused is not None else ():
        for kind, keys in KEYS_OF.items():
            if isinstance(node, kind):
                return keys
    if generating:
        return THINKING_KEYS if thinking else BUSY_KEYS
    return PROMPT_KEYS


def fit(hints: list[Hint], width: int) -> tuple[bool, list[Hint]]:
    """(without a space before each, hints that are whole in `width` cells): shorter labels, then fewer."""
    if width <= 0 or _needs(hints) + len(hints) <= width:
        return False, hints
    if _needs(hints) > width:
        hints = [one._replace(label=SHORT_LABELS.get(one.label, one.label)) for one in hints]
    while hints and _needs(hints) > width:
        hints = hints[:-1]
    return True, hints


def _needs(hints: list[Hint]) -> int:
    """Cells for keys and labels with a space between the two, and GAP between hints."""
    return sum(cell_len(one.key) + 1 + cell_len(one.label) for one in hints) + GAP * (len(hints) - 1)
