"""bench/, profile/ and lab/ are rooms of their own: what two of them need stands above them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.test_architecture import imports

FOLDER = Path(__file__).parents[3] / "llama_core" / "profiling"
ROOMS = ("bench", "profile", "lab")
# The laboratory asks the profiler what a step consists of.
MAY = {("lab", "profile")}


@pytest.mark.parametrize(("room", "other"), sorted(set(itertools.permutations(ROOMS, 2)) - MAY))
def test_no_room_imports_another(room: str, other: str) -> None:
    found = [
        f"{path.relative_to(FOLDER)} imports {name}"
        for path in (FOLDER / room).rglob("*.py")
        for name in imports(path)
        if name.startswith(f"llama_core.profiling.{other}")
    ]
    assert found == []


def test_what_stands_above_imports_no_room() -> None:
    found = [
        f"{path.name} imports {name}"
        for path in FOLDER.glob("*.py")
        for name in imports(path)
        if name.startswith(tuple(f"llama_core.profiling.{room}" for room in ROOMS))
    ]
    assert found == []
