"""Counts what is computed together."""

from __future__ import annotations

from typing import Any

import pytest

from llama_core.engine.batch import together


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[together.RepliesTogether]:
    """The batches of replies that have been run so far."""
    runs: list[together.RepliesTogether] = []

    class Counted(together.RepliesTogether):
        def run(self, *given: Any) -> Any:
            runs.append(self)
            return super().run(*given)

    monkeypatch.setattr(together, "RepliesTogether", Counted)
    return runs
