"""What the app's tests share: a small model, an engine that follows a script, and a stage for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_chat import write_tiny_chat


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template, as GGUF."""
    return write_tiny_chat(tmp_path_factory.mktemp("tiny") / "tiny-chat.gguf")


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
