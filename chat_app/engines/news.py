"""What travels from an engine to whoever asked it: records in a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat_app.engines.base import EngineInfo, Source
from llama_core.events import Event, LoadProgress, PrefillProgress

if TYPE_CHECKING:
    from llama_core.backends.base import MemoryReport
    from llama_core.backends.step_watch import StepTimes


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a model's load; None before the first report."""

    progress: LoadProgress | None


@dataclass(frozen=True, slots=True)
class EngineReady:
    """A model is loaded and answers; loading took `load_s`."""

    info: EngineInfo
    load_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """No model is loaded now; `text` is a sentence for a person, not yet cleaned."""

    source: Source
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEvent:
    """An event of the reply to request `request_id`."""

    request_id: int
    event: Event


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """The reply ended with an error; the engine takes the next request at once. is_sound: what came of it can
    be gone on with."""

    request_id: int
    text: str
    is_sound: bool = False


@dataclass(frozen=True, slots=True)
class ReadingAhead:
    """So much of the beginning of a prompt to come is read."""

    request_id: int
    progress: PrefillProgress


@dataclass(frozen=True, slots=True)
class ReadAheadEnded:
    """Nothing more is read ahead for this request. cut: something else was asked of the engine meanwhile."""

    request_id: int
    cut: bool


@dataclass(frozen=True, slots=True)
class MemoryMeasured:
    """Where the engine's bytes are now."""

    report: MemoryReport


@dataclass(frozen=True, slots=True)
class StepsMeasured:
    """What the operations of the engine's steps took since the last time."""

    times: StepTimes


@dataclass(frozen=True, slots=True)
class CacheReset:
    """The KV cache was emptied."""


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """Something other than a reply or a load failed; the engine takes the next job."""

    text: str


News = (
    Loading
    | EngineReady
    | LoadFailed
    | ReplyEvent
    | ReplyFailed
    | ReadingAhead
    | ReadAheadEnded
    | MemoryMeasured
    | StepsMeasured
    | CacheReset
    | EngineTrouble
)
