"""A chat beside whose model there is another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.config.settings import Settings
from tests.support.fake_engine import FakeEngine, factory_of
from tests.support.stage import Stage


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Stage]:
    """A chat with one fake model, and `other.gguf` for another."""
    own, other = FakeEngine(), FakeEngine(script=lambda turns: "You said nothing")
    (tmp_path / "other.gguf").write_bytes(b"GGUF")

    def opener(source: Path, settings: Any, on_progress: Any) -> FakeEngine:
        return factory_of(other if source.stem == "other" else own)(source, settings, on_progress)

    stage = Stage(tmp_path, own, Settings(), opener)
    stage.other = other  # type: ignore[attr-defined]
    stage.other_file = str(tmp_path / "other.gguf")  # type: ignore[attr-defined]
    await stage.load()
    yield stage
    await asyncio.to_thread(stage.host.close, 20)
    stage.session.chat.close()
