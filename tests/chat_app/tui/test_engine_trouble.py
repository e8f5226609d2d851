"""faults.md row 16: what fails outside a reply is told, and the engine's thread takes the next prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]


@pytest.mark.parametrize("name", ["memory", "reset"])
async def test_no_memory_outside_a_reply(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail() -> None:
        raise MemoryError

    app = make_app(save=False)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        monkeypatch.setattr(engine, name, fail)
        app.chat.session.reset_cache()
        await until(pilot, lambda: any("not enough memory" in one for one in app.news.said))
        monkeypatch.undo()
        app.chat.prompt.set_text("again")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.chat.session.path()) == 2)
        await ready(pilot)
        assert app.chat.session.path()[-1].content == "You said: again"
