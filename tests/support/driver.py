"""Drives the app by keys: short words for what every test of the screen does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chat_app.tui.widgets.messages.view import MessageView


class Driver:
    """Short words for what every test does."""

    def __init__(self, pilot: Any, ready: Any, until: Any) -> None:
        self.pilot, self._ready, self._until = pilot, ready, until
        self.app = pilot.app
        self.chat = pilot.app.chat

    async def ready(self) -> None:
        await self._ready(self.pilot)

    async def until(self, true: Callable[[], object]) -> None:
        await self._until(self.pilot, true)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def say(self, text: str) -> None:
        """Type, send, and wait for the end of the reply."""
        before = len(self.chat.session.conversation)
        self.chat.prompt.insert(text)
        await self.press("enter")
        await self.until(lambda: len(self.chat.session.conversation) >= before + 2)
        await self.ready()

    async def command(self, line: str) -> None:
        self.chat.prompt.set_text(line)
        await self.press("enter")

    def views(self) -> list[MessageView]:
        return list(self.chat.messages.views())

    def words(self) -> list[str]:
        return [message.content for message in self.chat.session.path()]

    def notices(self) -> list[str]:
        return list(self.app.news.said)

    def screen_text(self) -> str:
        """All that is drawn now, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)
