"""A scripted engine with the real one's interface: words instead of tokens, numbers that never vary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llama_core.backends.base import MemoryReport
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


@dataclass
class FakeEngine:
    """`script` gives a reply (a text, a list of pieces in which an exception is raised, not yielded).

    step_s is what each event claims; delay_s is really waited. `gate` (an Event) holds the stream before
    every token while it is clear.
    """

    script: Callable[[Sequence[dict[str, str]]], Any] = default_script
    ctx_size: int = 2048
    backend: str = "fake float32"
    step_s: float = 0.004
    delay_s: float = 0.0
    chunk: int = 32
    template: Any = "a template"
    gate: threading.Event = field(default_factory=threading.Event)
    context_n: int = 0
    calls: list[tuple[str, Any]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()
        self.cached: list[str] = []
        self._turns: list[dict[str, str]] = []
        self.model = SimpleNamespace(threads=2)
        self.tokenizer = SimpleNamespace(
            kind="words",
            encode=lambda text, special=False: split(text),
            add_bos=False,
            bos_id=None,
            token_text=lambda i: f"token{i}",
            token_bytes=lambda i: f"token{i}".encode(),
            decode=lambda ids: "".join(f"token{i} " for i in ids),
            stop_ids=frozenset({2}),
        )
        self.engine = SimpleNamespace(prompt_logits=self._prompt_logits)
        self.checkpoint = SimpleNamespace(
            config=SimpleNamespace(architecture="llama"),
            tokenizer=self.tokenizer,
            file_bytes=96 * MIB,
            chat_template=self.template,
        )

    def encode_chat(self, turns: Sequence[dict[str, str]], *, continue_last: bool = False) -> list[str]:
        """Words take the place of ids. The turns stay at hand for the script."""
        if self.template is None:
            return split(completion_text(turns))
        self._turns = [dict(turn) for turn in turns]
        self.calls.append(("continue" if continue_last else "chat", self._turns))
        return [piece for turn in turns for piece in ("<turn>", *split(turn["content"]))]

    def plan(self, prompt: Sequence[Any], params: Any) -> Any:
        turns = [one if isinstance(one, dict) else {"role": "user", "content": one} for one in prompt]
        counts = [1 + len(split(turn["content"])) for turn in turns]
        reply_n = params.max_tokens or 16
        drop: list[int] = []
        oldest = [i for i, turn in enumerate(turns) if turn["role"] != "system"][:-1]
        while sum(counts) - sum(counts[i] for i in drop) + reply_n > self.ctx_size and oldest:
            drop.append(oldest.pop(0))
        fits = sum(counts) + reply_n <= self.ctx_size
        return SimpleNamespace(
            prompt_n=sum(counts), reply_n=reply_n, limit=self.ctx_size, fits=fits, drop=tuple(drop)
        )

    def generate(
        self, prompt_ids: Sequence[str], params: Any, *, cancelled: Callable[[], bool], top_n: int = 0
    ) -> Iterator[Event]:
        if self.template is None:
            self.calls.append(("complete", "".join(prompt_ids)))
            self._turns = [{"role": "user", "content": "".join(prompt_ids)}]
        return self._generate(list(prompt_ids), self.script(self._turns), params, cancelled, top_n)

    def _generate(
        self, prompt: list[str], reply: Any, params: Any, cancelled: Callable[[], bool], top_n: int
    ) -> Iterator[Event]:
        cache_n = 0
        while cache_n < min(len(prompt) - 1, len(self.cached)) and prompt[cache_n] == self.cached[cache_n]:
            cache_n += 1
        total = len(prompt) - cache_n
        done, prefill_s = 0, 0.0
        self.cached = self.cached[:cache_n]
        yield PrefillProgress(cache_n, 0, total, 0.0)
        while done < total and not cancelled():
            done = min(total, done + self.chunk)
            prefill_s = done * self.step_s / 8
            self._wait(cancelled)
            yield PrefillProgress(cache_n, done, total, prefill_s)
        self.cached = prompt[: cache_n + done]
        index = 0
        pieces = split(reply) if isinstance(reply, str) else reply
        reason: Any = "stop"
        if not cancelled():
            for piece in pieces:
                self._wait(cancelled)
                if cancelled():
                    break
                if isinstance(piece, BaseException):
                    raise piece
                self.cached.append(piece)
                top = tuple((100 + rank, -0.5 - rank) for rank in range(top_n))
                yield TokenEvent(index, 100 + index, -0.25, self.step_s, len(self.cached), False, top)
                yield TextDelta(piece)
                index += 1
        reason = "cancelled" if cancelled() else "stop"
        timings = Timings(
            cache_n, done, prefill_s, index, max(0, index - 1) * self.step_s, prefill_s + self.step_s
        )
        yield Finished(reason, timings, 7, tuple(range(100, 100 + index)))

    def _wait(self, cancelled: Callable[[], bool]) -> None:
        if self.delay_s:
            time.sleep(self.delay_s)
        while not self.gate.wait(0.01):
            if cancelled():
                return

    def _prompt_logits(self, prompt_ids: Sequence[Any]) -> Any:
        """A distribution in which token 100 + n (n: ids of the reply before) is second to token 7."""
        import numpy as np

        n = sum(isinstance(one, int) for one in prompt_ids)
        logits = np.full(300, -5.0, dtype=np.float32)
        logits[7], logits[100 + n] = 3.0, 2.0
        return logits

    def reset(self) -> None:
        self.calls.append(("reset", None))
        self.cached = []

    def memory(self) -> MemoryReport:
        kv = self.ctx_size * KV_BYTES_PER_POSITION
        used = len(self.cached) * KV_BYTES_PER_POSITION
        return MemoryReport(98 * MIB, kv, used, 4 * MIB, 0, 213 * MIB)

    def close(self) -> None:
        self.closed = True


def factory_of(engine: FakeEngine, *, load_s: float = 0.0) -> Callable[..., FakeEngine]:
    """An EngineFactory that hands out `engine` after two reports of progress."""

    def factory(path: Path, settings: Any, on_progress: Callable[[LoadProgress], None]) -> FakeEngine:
        on_progress(LoadProgress("weights", 0, 96 * MIB))
        if load_s:
            time.sleep(load_s)
        on_progress(LoadProgress("weights", 96 * MIB, 96 * MIB))
        return engine

    return factory
