"""A slash command from the prompt box: runs it, and gives the line back where it was a mistake."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from chat_app.chat.commands import SLASH, ScreenHost
from chat_app.tui.widgets.prompt import PromptArea
from chat_app.tui.work import Work


class CommandLine:
    """`host` is who the commands act on."""

    def __init__(self, host: ScreenHost, work: Work, prompt: PromptArea) -> None:
        self._host = host
        self._work = work
        self._prompt = prompt

    def run(self, line: str) -> None:
        """Run a command. No command ends the app, whatever goes wrong in it."""
        try:
            done = SLASH.run(self._host, line)
        except Exception as error:  # noqa: BLE001 - whatever a command meets is told, and the app stays open
            self._fail(line, error)
            return
        if done is not None:
            self._work.spawn(self._finish(line, done))  # it may wait for the engine, and keys must not

    async def _finish(self, line: str, done: Awaitable[Any]) -> None:
        try:
            await done
        except Exception as error:  # noqa: BLE001 - whatever a command meets is told, and the app stays open
            self._fail(line, error)

    def _fail(self, line: str, error: Exception) -> None:
        """A mistake is answered with a sentence; the line comes back, unless another text stands there."""
        if isinstance(error, ValueError):
            self._host.note(str(error), "warning")
        else:
            self._work.report(error)
        self._prompt.offer_again(line)
