"""A formula in a reply: Unicode on the screen, the source on the clipboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
REPLY = r"So \(x^2 \le \frac{a+b}{2}\) and `\(x^2\)`."


async def test_shown_and_copied(
    make_app: MakeApp, engine: FakeEngine, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.tui.clipboard.native_command", lambda: None)
    engine.script = lambda turns: REPLY
    async with make_app().run_test(size=(80, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        assert r"So x² ≤ (a+b)/2 and \(x^2\)." in user.screen_text()
        await user.press("alt+up", "alt+y")
        await user.until(lambda: user.app.clipboard == REPLY)
