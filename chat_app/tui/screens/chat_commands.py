"""How the chat screen runs a slash command."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from chat_app.chat.commands import SLASH, ScreenHost
from chat_app.tui.screens.chat_part import ChatPart


class ChatCommands(ChatPart):
    """The part of the chat screen that answers commands."""

    host: ScreenHost

    def run_command(self, text: str) -> None:
        """Run a typed command; a mistake is answered with a sentence and the line comes back."""
        try:
            done = SLASH.run(self.host, text)
        except Exception as error:  # noqa: BLE001 - told; a command never ends the app
            self._command_failed(text, error)
            return
        if done is not None:
            # Not awaited here: it may wait for the engine, and keys must not wait with it.
            self.spawn(self._finish_command(text, done))

    async def _finish_command(self, text: str, done: Awaitable[Any]) -> None:
        try:
            await done
        except Exception as error:  # noqa: BLE001 - as above
            self._command_failed(text, error)

    def _command_failed(self, text: str, error: Exception) -> None:
        if isinstance(error, ValueError):
            self.note(str(error), "warning")
        else:
            self.report(error)
        if not self.prompt.text:
            self.prompt.set_text(text)
