"""faults.md row 19: resizes while a reply streams; the last frame is what a fresh app draws."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.events import Resize
from textual.geometry import Size

from tests.support.fake_engine import FakeEngine
from tests.support.luck import SEED

MakeApp = Callable[..., Any]
MARKDOWN = "# Head\n\nSome *words*.\n\n```python\nprint([1, 2])\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
LAST_SIZE = (100, 40)


def frame(app: Any) -> list[str]:
    """What is drawn of the conversation, row by row."""
    strips = app.screen._compositor.render_strips()
    x, y, width, height = app.chat.messages.region
    return ["".join(part.text for part in strip.crop(x, x + width)) for strip in strips[y : y + height]]


class EndlessReply:
    """A stream that goes on for as long as it is let: a few characters for every permit."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.over = threading.Event()

    def __call__(self, turns: Any) -> Iterator[str]:
        for piece in itertools.cycle(pieces(MARKDOWN)):
            while not self.permits.acquire(timeout=0.01):
                if self.over.is_set():
                    yield "\n\nthe end"
                    return
            yield piece


def pieces(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


async def still(app: Any, pilot: Any) -> list[str]:
    """The frame once it no longer changes."""
    app.news.clear()
    app.chat.action_to_end()
    seen: list[str] = []
    async with asyncio.timeout(30):
        while (now := frame(app)) != seen or not any("the end" in row for row in now):
            seen = now
            await pilot.pause(0.2)
    return seen


async def resize_many(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, count: int) -> None:
    source = random.Random(SEED)
    reply = EndlessReply()
    engine.script = reply
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.session.model.info)
        app.chat.prompt.set_text("go")
        await pilot.press("enter")
        await until(pilot, lambda: app.chat.session.reply is not None)
        growing = app.chat.session.reply
        for number in range(count):
            size = Size(1, 1) if number == 0 else Size(source.randint(1, 300), source.randint(1, 100))
            before = len(growing.parts)
            reply.permits.release(3)
            # Not pilot.resize_terminal, which waits until nothing happens any more.
            app._driver._size = size
            app.post_message(Resize(size, size))
            async with asyncio.timeout(30):
                while len(growing.parts) == before:
                    await asyncio.sleep(0.001)
            assert app.chat.session.reply is growing, f"seed {SEED}: the stream ended before the resizes"
        reply.over.set()
        await pilot.resize_terminal(*LAST_SIZE)
        await ready(pilot)
        seen = await still(app, pilot)
        chat_id = app.chat.session.chat.id
    fresh = make_app(chat_id=chat_id)
    async with fresh.run_test(size=LAST_SIZE) as pilot:
        await ready(pilot)
        await until(pilot, lambda: fresh.chat.messages.views())
        assert await still(fresh, pilot) == seen, f"seed {SEED}"


async def test_resizes_while_streaming(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    await resize_many(make_app, engine, ready, until, 12)


@pytest.mark.slow
async def test_a_thousand_resizes(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    await resize_many(make_app, engine, ready, until, 1000)
