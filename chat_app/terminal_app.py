"""The app's dealings with its terminal: what comes from it, and a stop that reaches the shell."""

from __future__ import annotations

import os
import signal

from textual._dispatch_key import dispatch_key
from textual.app import App
from textual.driver import Driver
from textual.events import Event, Key, Paste
from textual.widgets import Input, TextArea

from chat_app.sanitize import clean, clean_pasted
from chat_app.widgets.prompt import PromptArea


class TerminalApp(App[int]):
    """Base of the app: pastes are no keys, stray keys reach the prompt, the whole job stops."""

    def get_driver_class(self) -> type[Driver]:
        driver = super().get_driver_class()
        if driver.__name__ != "LinuxDriver":  # Windows, or one that the user chose
            return driver
        from chat_app.terminal_input import GuardedDriver

        return GuardedDriver

    async def on_event(self, event: Event) -> None:
        """A paste is made inert before any widget sees it, the command palette's own box included."""
        if isinstance(event, Paste):
            event.text = clean_pasted(event.text)
        await super().on_event(event)

    @property
    def clipboard(self) -> str:
        """What Ctrl+V inserts: as inert as a paste."""
        return clean(super().clipboard)

    def action_suspend_process(self) -> None:
        """Stop the whole job: a launcher (`uv run`) that stayed in the foreground would keep the terminal."""
        if self._driver is not None and self._driver.can_suspend:
            self._suspend_signal()
            os.killpg(0, signal.SIGTSTP)

    async def _on_key(self, event: Key) -> None:
        """What no binding answers, typed on a selected message, goes to the prompt."""
        event.prevent_default()
        if await self._check_bindings(event.key):
            return
        if not isinstance(self.focused, TextArea | Input):
            for prompt in self.screen.query(PromptArea):
                if prompt.take_key(event):
                    return
        await dispatch_key(self, event)
