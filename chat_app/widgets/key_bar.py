"""The footer: six keys, those that matter where the focus is; a click presses one."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

PROMPT_KEYS = ("app.help", "app.palette", "chat.new", "chat.history", "chat.reset", "chat.panel")
BUSY_KEYS = ("chat.stop", "app.help", "app.palette", "chat.history", "chat.select_previous", "chat.panel")
MESSAGE_KEYS = (
    "message.copy",
    "message.edit",
    "message.regenerate",
    "message.continue",
    "message.branch",
    "message.inspect",
)


class KeyHint(Static, can_focus=False):
    def __init__(self) -> None:
        super().__init__(classes="key-hint")
        self._action = ""

    def show(self, key: str, label: str, action: str) -> None:
        self._action = action
        self.update(Content.assemble((f" {key} ", "bold $text-accent"), (label, "$foreground 60%")))
        self.display = bool(key)

    async def on_click(self, event: Click) -> None:
        if self._action:
            node = self.screen.focused or self.screen
            await self.app.run_action(self._action, node)


class KeyBar(Horizontal, can_focus=False):
    """Reads keys and labels from the bindings themselves, so a remapped key shows as it is."""

    def compose(self) -> ComposeResult:
        for _ in range(6):
            yield KeyHint()

    def show_keys(self, ids: Sequence[str]) -> None:
        found = {
            active.binding.id: active.binding
            for active in self.screen.active_bindings.values()
            if active.binding.id
        }
        for hint, wanted in zip(self.query(KeyHint), ids, strict=False):
            binding = found.get(wanted)
            if binding is None:
                hint.show("", "", "")
            else:
                hint.show(self.app.get_key_display(binding), binding.description, binding.action)
