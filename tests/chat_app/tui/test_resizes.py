"""Resizes while a reply streams: no exception, and the last frame is what a fresh drawing gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeEngine

MakeApp = Callable[..., Any]
MARKDOWN = "# Head\n\nSome *words*.\n\n```python\nprint([1, 2])\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"


def frame(app: Any) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def resize_many(app: Any, engine: FakeEngine, ready: Any, until: Any, count: int) -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    engine.script = lambda turns: (piece for _ in range(4) for piece in MARKDOWN)
    engine.delay_s = 0.002
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.session.info)
        app.chat.prompt.set_text("go")
        await pilot.press("enter")
        for number in range(count):
            size = (1, 1) if number == 0 else (source.randint(1, 300), source.randint(1, 100))
            await pilot.resize_terminal(*size)
        await pilot.resize_terminal(100, 40)
        await ready(pilot)
        app.clear_notifications()
        app.chat.action_to_end()
        await pilot.pause(0.3)
        seen = frame(app)
        app.refresh(layout=True)
        app.screen.refresh(layout=True)
        await pilot.pause(0.3)
        assert frame(app) == seen, f"seed {seed}"
        assert "print([1, 2])" in seen


async def test_resizes_while_streaming(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    await resize_many(make_app(), engine, ready, until, 8)


@pytest.mark.slow
async def test_a_thousand_resizes(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    await resize_many(make_app(), engine, ready, until, 1000)
