"""A scripted engine behind the chat's protocol: words instead of tokens, numbers that never vary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat_app.engines.base import (
    Capabilities,
    EngineInfo,
    Prompt,
    PromptRequest,
    ReplyParts,
    Restored,
    Token,
    Turn,
)
from llama_core.backends.base import MemoryReport
from llama_core.backends.step_watch import StepWatch
from llama_core.engine.text import completion_text
from llama_core.events import (
    Event,
    Finished,
    LoadProgress,
    PrefillProgress,
    TextDelta,
    Timings,
    TokenEvent,
)

MIB = 1024 * 1024
KV_BYTES_PER_POSITION = 46_080
CHUNK = 32


class FakeClock:
    """A clock that stands until someone moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def split(text: str) -> list[str]:
    """Words with the space before them; together they are the text."""
    pieces: list[str] = []
    word = ""
    for character in text:
        if character in " \n" and word:
            pieces.append(word)
            word = ""
        word += character
    return [*pieces, word] if word else pieces


def default_script(turns: Sequence[dict[str, str]]) -> str:
    return f"You said: {turns[-1]['content']}"


class FakeTokens:
    """Words are tokens, numbered from 1000 as they come; a reply's are numbered from 100."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self._ids.setdefault(word, 1000 + len(self._ids)) for word in split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"token{one} " for one in ids)

    def parts(self, prompt: Prompt, ids: Sequence[int]) -> ReplyParts:
        return ReplyParts("", self.decode(ids), 0)

    def describe(self, ids: Sequence[int]) -> list[Token]:
        return [Token(one, f"token{one}", f"token{one}".encode()) for one in ids]

    def ends_reply(self, token_id: int) -> bool:
        return token_id == 2

    def logits(self, ids: Sequence[int]) -> Any:
        """A distribution in which token 100 + n (n: tokens of the reply before) is second to token 7."""
        import numpy as np

        logits = np.full(300, -5.0, dtype=np.float32)
        logits[7], logits[100 + sum(7 <= one < 1000 for one in ids)] = 3.0, 2.0
        return logits

    def allowed(self, grammar: Any, prompt_ids: Sequence[int], ids: Sequence[int]) -> Any:
        """Everything but token 7."""
        import numpy as np

        return np.arange(300) != 7

    def cut_by(self, params: Any, logits: Any, prompt_ids: Any, ids: Any, among: Any, allowed: Any) -> Any:
        """By what is allowed, and by top_p all that is neither of the two likeliest."""
        cut = ["mask" if allowed is not None and not allowed[one] else "" for one in among]
        return tuple(
            reason or ("top_p" if logits[one] < 0 else "") for one, reason in zip(among, cut, strict=True)
        )


@dataclass
class FakeEngine:
    """`script` gives a reply (a text, a list of pieces in which an exception is raised, not yielded).

    step_s is what each event claims; delay_s is really waited. `gate` (an Event) holds the stream before
    every token while it is clear. Every prompt is in `calls`.
    """

    script: Callable[[Sequence[dict[str, str]]], Any] = default_script
    ctx_size: int = 2048
    step_s: float = 0.004
    delay_s: float = 0.0
    template: str | None = "a template"
    capabilities: Capabilities = field(default_factory=Capabilities)
    path: Path = Path("model.gguf")
    gate: threading.Event = field(default_factory=threading.Event)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    closed: bool = False
    logprobs: tuple[float, ...] = (-0.25,)  # of a reply's tokens, over and over
    restored: Restored | None = None
    max_ctx_size: int = 0
    steps: StepWatch | None = None
    params: list[Any] = field(default_factory=list)  # of each reply

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def info(self) -> EngineInfo:
        name = self.path.stem if self.path.is_file() else self.path.name
        return EngineInfo(
            name, self.path, "fake float32", 2, self.ctx_size, 96 * MIB, self.template is not None,
            tokenizer="words", template=self.template or "", capabilities=self.capabilities,
            max_ctx_size=self.max_ctx_size,
        )  # fmt: skip

    def prepare(self, request: PromptRequest) -> Prompt:
        turns, reply_n = request.turns, request.params.max_tokens or 16
        ids = [one for turn in turns for one in (1, *(turn.ids or self.tokens.encode(turn.content)))]
        prompt_n, drop = to_drop(turns, self.ctx_size - reply_n)
        fits = prompt_n + reply_n <= self.ctx_size
        last = turns[-1]
        begun_n = len(last.ids or self.tokens.encode(last.content)) if request.continue_last else 0
        limit = self.ctx_size
        return Prompt(turns, tuple(ids), prompt_n, reply_n, limit, fits, drop, begun_n=begun_n)

    def stream(self, prompt: Prompt, params: Any, *, cancelled: Callable[[], bool]) -> Iterator[Event]:
        turns = [turn.to_message() for turn in prompt.turns]
        if self.template is None:
            turns = [{"role": "user", "content": completion_text(turns)}]
        going_on = bool(turns) and turns[-1]["role"] == "assistant"
        self.params.append(params)
        self.calls.append(("continue" if going_on else "chat", turns))
        return scripted(self, list(prompt.ids or ()), self.script(turns), cancelled)

    def stream_together(self, replies: Any, *, cancelled: Callable[[], bool]) -> Iterator[Any]:
        """An event of each in turn; one that fails ends alone."""
        streams = {place: self.stream(*one, cancelled=cancelled) for place, one in enumerate(replies)}
        while streams:
            for place, stream in list(streams.items()):
                try:
                    yield place, next(stream)
                except StopIteration:
                    del streams[place]
                except Exception as error:  # noqa: BLE001 - it is the caller's
                    del streams[place]
                    yield place, error

    def restore(self, request: PromptRequest) -> Restored | None:
        self.calls.append(("restore", request.chat_id))
        return self.restored

    def read_ahead(
        self, request: PromptRequest, *, cancelled: Callable[[], bool]
    ) -> Iterator[PrefillProgress]:
        self.calls.append(("ahead", request.turns[-1].content))
        ids = list(self.prepare(request).ids or ())
        if len(ids) <= CHUNK or self.cached[: len(ids)] == ids:
            return
        for done in range(0, len(ids), CHUNK):
            yield PrefillProgress(0, done, len(ids), done * self.step_s / 8)
            time.sleep(self.delay_s)
            while not self.gate.wait(0.01) and not cancelled():
                pass
            if cancelled():
                return
            self.cached = ids[: done + CHUNK]
        yield PrefillProgress(0, len(ids), len(ids), len(ids) * self.step_s / 8)

    def reset(self) -> None:
        self.calls.append(("reset", None))
        self.cached = []

    def memory(self) -> MemoryReport:
        kv, used = (n * KV_BYTES_PER_POSITION for n in (self.ctx_size, len(self.cached)))
        return MemoryReport(98 * MIB, kv, used, 4 * MIB, 0, 213 * MIB)

    def close(self) -> None:
        self.closed = True


def to_drop(turns: Sequence[Turn], room: int) -> tuple[int, tuple[int, ...]]:
    """(tokens of the turns, places of the oldest that must go so that the rest has room)."""
    counts = [1 + len(split(turn.content)) for turn in turns]
    oldest = [at for at, turn in enumerate(turns) if turn.role != "system"][:-1]
    dropped = 0
    while sum(counts) - sum(counts[at] for at in oldest[:dropped]) > room and dropped < len(oldest):
        dropped += 1
    return sum(counts), tuple(oldest[:dropped])


def scripted(
    engine: FakeEngine, prompt: list[int], reply: Any, cancelled: Callable[[], bool]
) -> Iterator[Event]:
    """The events of one reply: the prompt in chunks, without what is cached, then word after word."""

    def wait() -> None:
        time.sleep(engine.delay_s)
        while not engine.gate.wait(0.01) and not cancelled():
            pass

    pairs = zip(prompt[:-1], engine.cached, strict=False)
    most = min(len(prompt) - 1, len(engine.cached))
    cache_n = next((at for at, (new, old) in enumerate(pairs) if new != old), most)
    total, done, n = len(prompt) - cache_n, 0, 0
    yield PrefillProgress(cache_n, 0, total, 0.0)
    while done < total and not cancelled():
        done = min(total, done + CHUNK)
        wait()
        yield PrefillProgress(cache_n, done, total, done * engine.step_s / 8)
    engine.cached = prompt[: cache_n + done]
    for piece in () if cancelled() else split(reply) if isinstance(reply, str) else reply:
        wait()
        if cancelled():
            break
        if isinstance(piece, BaseException):
            raise piece
        engine.cached.append(100 + n)
        yield TokenEvent(
            n, 100 + n, engine.logprobs[n % len(engine.logprobs)], engine.step_s, len(engine.cached)
        )
        yield TextDelta(piece)
        n += 1
    prefill_s, decode_s = done * engine.step_s / 8, max(0, n - 1) * engine.step_s
    timings = Timings(cache_n, done, prefill_s, n, decode_s, prefill_s + engine.step_s)
    yield Finished("cancelled" if cancelled() else "stop", timings, 7, tuple(range(100, 100 + n)))


def factory_of(engine: FakeEngine, *, load_s: float = 0.0) -> Callable[..., FakeEngine]:
    """An `OpenEngine` that hands out `engine` after two reports of progress."""

    def factory(path: Path, settings: Any, on_progress: Callable[[LoadProgress], None]) -> FakeEngine:
        on_progress(LoadProgress("weights", 0, 96 * MIB))
        if load_s:
            time.sleep(load_s)
        on_progress(LoadProgress("weights", 96 * MIB, 96 * MIB))
        engine.path = path
        return engine

    return factory
