"""How fast a model's replies were here: what replaces an estimate once it has answered."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_app.config.paths import get_paths
from chat_app.models.file_memory import FileMemory
from chat_app.models.machine_rates import forget_rates

# Shorter ones say little: a reply's first tokens wake threads, a short prompt fills no tile.
MIN_REPLY, MIN_PROMPT = 16, 128
# So many times as fast as before: the machine was busy then.
MUCH_FASTER = 2.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second that were measured with one backend; None where no reply was long enough."""

    backend: str
    decode_per_s: float | None = None
    prompt_per_s: float | None = None


def remember_speed(path: Path, backend: str, timings: Mapping[str, Any]) -> None:
    """Take in what a reply of the model at `path` cost. Old and new count alike, unless the new is much
    faster: then it counts alone, and the machine is measured again. backend: as the engine calls it, "jit
    ..." or "numpy"."""
    backend = backend.partition(" ")[0]
    decode = _rate(timings, "predicted_n", "predicted_per_second", MIN_REPLY)
    prompt = _rate(timings, "prompt_n", "prompt_per_second", MIN_PROMPT)
    if decode is None and prompt is None:
        return
    with contextlib.suppress(OSError):  # the file has gone, or no room: the next reply tells it again
        memory = FileMemory(get_paths().model_speeds)
        before = _known(memory, path)
        if before is None or before.backend != backend:
            before = Speed(backend)
        pairs = ((before.decode_per_s, decode), (before.prompt_per_s, prompt))
        memory.put(_key(path), [backend, *(_together(old, new) for old, new in pairs)])
        if any(_much_faster(old, new) for old, new in pairs):
            forget_rates()
        memory.save()


def measured_speeds() -> Speeds:
    """What is remembered, read once."""
    return Speeds(FileMemory(get_paths().model_speeds))


class Speeds:
    """The speeds of models by their files, as they are now."""

    def __init__(self, memory: FileMemory) -> None:
        self._memory = memory

    def of(self, path: Path) -> Speed | None:
        """The speed of the model at `path`; None where it has not answered here."""
        try:
            return _known(self._memory, path)
        except OSError:
            return None


def _key(path: Path) -> Path:
    """What changes when a model does."""
    return path / "config.json" if path.is_dir() else path


def _known(memory: FileMemory, path: Path) -> Speed | None:
    match memory.get(_key(path)):
        case [str(backend), float() | None as decode, float() | None as prompt]:
            return Speed(backend, decode, prompt)
    return None


def _rate(timings: Mapping[str, Any], count: str, rate: str, least: int) -> float | None:
    n, per_s = timings.get(count), timings.get(rate)
    enough = isinstance(n, int) and n >= least and isinstance(per_s, int | float) and per_s > 0
    return float(per_s) if enough and per_s is not None else None


def _together(before: float | None, now: float | None) -> float | None:
    if before and now and not _much_faster(before, now):
        return (before + now) / 2
    return now or before


def _much_faster(before: float | None, now: float | None) -> bool:
    """Others' work makes a reply slower; nothing makes it much faster than it can be."""
    return bool(before and now) and (now or 0.0) > MUCH_FASTER * (before or 0.0)
