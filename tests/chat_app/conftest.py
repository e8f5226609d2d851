"""What the app's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_chat import write_tiny_chat


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template, as GGUF."""
    return write_tiny_chat(tmp_path_factory.mktemp("tiny") / "tiny-chat.gguf")
