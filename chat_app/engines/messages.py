"""What travels from the engine's thread to the screen: records in a queue, and one message that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from llama_core.events import Event, LoadProgress

if TYPE_CHECKING:
    from llama_core.backends.base import MemoryReport


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A loaded model as the screen describes it. `has_template` False: a base model, plain completion."""

    name: str
    path: Path
    backend: str
    threads: int
    ctx_size: int
    file_bytes: int
    has_template: bool
    architecture: str = "llama"
    tokenizer: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of a model's load; None before the first report."""

    progress: LoadProgress | None


@dataclass(frozen=True, slots=True)
class EngineReady:
    info: EngineInfo
    load_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """No model is loaded now; `text` is a sentence for a person, not yet cleaned."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEvent:
    """An event of the reply to request `request_id`."""

    request_id: int
    event: Event


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """The reply ended with an error; the engine takes the next request at once."""

    request_id: int
    text: str


@dataclass(frozen=True, slots=True)
class MemoryMeasured:
    report: MemoryReport


@dataclass(frozen=True, slots=True)
class CacheReset:
    """The KV cache was emptied."""


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """Something other than a reply or a load failed; the engine's thread goes on."""

    text: str


News = (
    Loading
    | EngineReady
    | LoadFailed
    | ReplyEvent
    | ReplyFailed
    | MemoryMeasured
    | CacheReset
    | EngineTrouble
)


class EngineNews(Message, bubble=False):
    """Records wait in the bridge: drain it. Several of these in a row are as good as one."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, EngineNews)
