"""What the tests of the chat and of its screen share: an engine that follows a script, and a stage for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def engine() -> Any:
    from tests.support.fake_engine import FakeEngine

    return FakeEngine()


@pytest.fixture
async def stage(tmp_path: Path, engine: Any) -> AsyncIterator[Any]:
    """A controller with a loaded fake model."""
    from chat_app.config.settings import Settings
    from tests.support.stage import Stage

    found = Stage(tmp_path, engine, Settings())
    await found.load()
    yield found
    engine.gate.set()
    await asyncio.to_thread(found.host.close, 20)
    found.session.chat.close()
