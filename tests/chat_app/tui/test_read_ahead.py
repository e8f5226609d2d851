"""What the engine reads while one types stands in the frame of the prompt box, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.engines.base import Capabilities
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    (here / "notes[b].txt").write_text("a line\n" * 100)
    monkeypatch.chdir(here)
    return here


async def test_a_mentioned_file_is_read_until_it_is_taken_out(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.capabilities = Capabilities(reads_ahead=True)
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        user.chat.session.ahead.settle_s = 0.0
        engine.gate.clear()
        await user.press(*"see ")
        user.chat.prompt.insert("@notes[b].txt ")
        await user.until(lambda: "─ reading notes[b].txt ahead 0 % ─" in user.screen_text())
        await user.press(*"and say")
        assert "reading notes[b].txt" in user.screen_text()
        engine.gate.set()
        await user.until(lambda: "─ notes[b].txt read ─" in user.screen_text())
        engine.gate.clear()
        user.chat.prompt.set_text("see ")
        await user.until(lambda: "notes" not in user.screen_text())
        engine.gate.set()

        def asked() -> int:
            return [name for name, _ in engine.calls].count("ahead")

        await user.until(lambda: asked() == 3)
        user.chat.prompt.set_text("/file " + "notes[b].txt " * 100)
        await pilot.pause(0.05)
        assert asked() == 3, "a command is no prompt"
