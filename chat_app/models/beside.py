"""Whether another model has room in memory beside what is loaded, known before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.models.facts import facts_of
from chat_app.models.installed import LocalModel

if TYPE_CHECKING:
    from chat_app.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a model needs, 0 where that is not known, and that are free now."""

    needed_bytes: int
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether there is room; True where nothing is known."""
        return self.needed_bytes <= self.free_bytes


def room_beside(path: Path, settings: Settings) -> Room:
    """For the model at `path`, with the backend that would run it. Reads its header."""
    from llama_core.backends.jit import jit_available
    from llama_core.memory import available_bytes

    files = () if path.is_dir() else (path,)
    works = facts_of([LocalModel(path.name, path, 0, files=files)])[path].works
    order = ("numpy",) if settings.backend == "numpy" or jit_available() else ("jit", "numpy")
    known = (works.get(name) for name in order)
    needed = next((work.memory_bytes for work in known if work is not None and not isinstance(work, str)), 0)
    return Room(needed, available_bytes())
