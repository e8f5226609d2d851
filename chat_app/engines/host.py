"""The sole owner of an engine: a queue of jobs for it, and a queue of its news.

`load`, `reply`, `read_ahead`, `reset`, `ask` and `cancel` do not wait. What happens is appended to a queue,
which costs the engine nothing, and taken with `drain`. Only what must not wait for the next tick of a timer
(the first text, each chunk of a prompt, every end) also calls `wake`, on the engine's thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from chat_app.engines import news
from chat_app.engines.base import (
    BrokenOffError,
    Engine,
    OnProgress,
    OpenEngine,
    Prompt,
    PromptRequest,
    Source,
)
from chat_app.engines.runners import Job, Runner, ThreadRunner
from chat_app.engines.sources import open_engine
from chat_app.text.errors import describe_error
from llama_core.errors import Cancelled
from llama_core.events import Finished, LoadProgress, PrefillProgress, TextDelta

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.sampling.params import SamplingParams

T = TypeVar("T")

_log = logging.getLogger(__name__)

MEMORY_PERIOD_S = 1.0
STEPS_PERIOD_S = 0.5
LOAD_NEWS_PERIOD_S = 0.03
NO_MODEL = "No model is loaded."


@dataclass(slots=True)
class _Request:
    id: int
    cancelled: threading.Event = field(default_factory=threading.Event)
    answer_now: threading.Event = field(default_factory=threading.Event)


class EngineHost:
    """`close` it at the end: what runs is cancelled, and nobody waits for more than `timeout` seconds."""

    def __init__(
        self,
        wake: Callable[[], object] = lambda: None,
        open_engine: OpenEngine = open_engine,
        *,
        runner: Runner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake = wake
        self._open = open_engine
        self._runner = runner or ThreadRunner()
        self._clock = clock
        self._news: deque[tuple[int, news.News]] = deque()  # with the load that each tells of, else 0
        self._load_n = 0  # of the load that was asked for last
        self._ids = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._ahead: _Request | None = None
        self._engine: Engine | None = None
        self._memory_due = 0.0
        self._watching = False
        self._steps_due = 0.0
        self._closed = False

    def load(self, source: Source, settings: Settings) -> None:
        """Load `source` in place of the model there is. News: Loading..., then EngineReady or LoadFailed. A
        load that is not done is given up for it, and no more is told of that one."""
        self._load_n += 1
        self._submit(self._load(source, settings, self._load_n))

    def reply(self, prompt: Prompt, params: SamplingParams) -> int:
        """Answer a prompt; returns the request's id. Its events come as ReplyEvent, the last of which holds a
        Finished, or it ends with a ReplyFailed."""
        request = _Request(next(self._ids))
        self._requests[request.id] = request
        self._submit(self._reply(request, prompt, params))
        return request.id

    def cancel(self, request_id: int | None = None) -> None:
        """Stop one request, or all. Each still ends with Finished("cancelled")."""
        for request in list(self._requests.values()):
            if request_id in (None, request.id):
                request.cancelled.set()

    def answer_now(self, request_id: int) -> None:
        """End the thought of a reply, now or once it begins. Means nothing where the engine thinks not."""
        if request_id in self._requests:
            self._requests[request_id].answer_now.set()

    def read_ahead(self, request: PromptRequest) -> int:
        """Read the beginning of a prompt to come, until anything else is asked; returns the request's id.
        News: ReadingAhead..., then ReadAheadEnded. What goes wrong is logged: the prompt itself will tell."""
        ahead = _Request(next(self._ids))
        self._submit(self._read_ahead(ahead, request))
        self._ahead = ahead
        return ahead.id

    def stop_ahead(self) -> None:
        """Read nothing ahead any more; what is read stays."""
        if self._ahead is not None:
            self._ahead.cancelled.set()
            self._ahead = None

    def watch_steps(self, on: bool) -> None:
        """Whether to measure what the operations of each step take, from the next step on. News:
        StepsMeasured."""
        self._watching = on
        self._turn_watch(self._engine)

    def reset(self) -> None:
        """Empty the KV cache, after what runs now. News: CacheReset."""
        self._submit(self._reset())

    def ask(self, question: Callable[[Engine], T]) -> Future[T]:
        """The answer of `question(engine)`, computed between two requests where the engine runs.
        The future raises LookupError where no model is loaded."""
        future: Future[T] = Future()
        self._submit(self._answer(question, future))
        return future

    def ask_another(
        self, source: Source, settings: Settings, question: Callable[[Engine], T], on_progress: OnProgress
    ) -> Future[T]:
        """The answer of an engine that is opened for it, beside the one there is, and closed behind it. The
        future raises what opening it raises; `on_progress` may raise to end that."""
        future: Future[T] = Future()
        self._submit(self._answer_by(source, settings, question, on_progress, future))
        return future

    def drain(self) -> Iterator[news.News]:
        """All news that there are now, in order. Taking one may begin another load: what is behind it of the
        load before is then left out."""
        self._runner.step()
        for _ in range(len(self._news)):
            load_n, item = self._news.popleft()
            if load_n in (0, self._load_n):
                yield item

    def close(self, timeout: float = 1.0) -> None:
        """Cancel everything and let the engine go; gives up waiting after `timeout` seconds."""
        self._closed = True
        self.cancel()
        self.stop_ahead()
        self._runner.close(self._close_engine, timeout)

    # Jobs: they run where the engine runs.

    def _submit(self, job: Job) -> None:
        self.stop_ahead()
        self._runner.submit(self._guarded(job))

    def _guarded(self, job: Job) -> Job:
        try:
            yield from job
        except Exception as error:  # noqa: BLE001 - whatever a job did not expect: the next one runs
            _log.error("a job of the engine failed", exc_info=error)
            self._tell(news.EngineTrouble(describe_error(error)))

    def _tell(self, item: news.News, *, wake: bool = True, load_n: int = 0) -> None:
        self._news.append((load_n, item))
        if wake and not self._closed:
            self._wake()

    def _close_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _load(self, source: Source, settings: Settings, load_n: int) -> Job:
        started = self._clock()
        due, stage = started, ""

        def on_progress(progress: LoadProgress) -> None:
            nonlocal due, stage
            if load_n != self._load_n:
                raise Cancelled
            now = self._clock()
            if now >= due or progress.stage != stage or progress.done_bytes >= progress.total_bytes:
                due, stage = now + LOAD_NEWS_PERIOD_S, progress.stage
                self._tell(news.Loading(progress), load_n=load_n)

        if load_n != self._load_n:
            return  # another was asked for meanwhile
        self._tell(news.Loading(None), load_n=load_n)
        yield
        try:
            self._close_engine()  # the old model goes first: two at once may not fit into memory
            self._engine = self._open(source, settings, on_progress)
            self._turn_watch(self._engine)
        except Cancelled:
            _log.info("a load was given up for another")
            return
        except Exception as error:  # noqa: BLE001 - whatever a file can provoke belongs on the screen
            _log.info("a model could not be loaded", exc_info=error)
            self._tell(news.LoadFailed(source, describe_error(error)), load_n=load_n)
            return
        self._tell(news.EngineReady(self._engine.info, self._clock() - started), load_n=load_n)
        self._measure_memory(force=True)

    def _reply(self, request: _Request, prompt: Prompt, params: SamplingParams) -> Job:
        finished = False
        try:
            if self._engine is None:
                raise LookupError(NO_MODEL)
            seen_text = False
            signals = {"cancelled": request.cancelled.is_set}
            if self._engine.info.capabilities.thinks:
                signals["answer_now"] = request.answer_now.is_set
            for event in self._engine.stream(prompt, params, **signals):
                if isinstance(event, Finished):
                    finished = True
                    self._runner.after_reply(event.timings)
                first = isinstance(event, TextDelta) and not seen_text
                seen_text = seen_text or first
                urgent = first or finished or isinstance(event, PrefillProgress)
                self._tell(news.ReplyEvent(request.id, event), wake=urgent)
                self._measure_memory()
                self._measure_steps()
                yield
            if not finished:
                raise RuntimeError("The engine's stream ended without its last record.")
        except Exception as error:  # noqa: BLE001 - a failed reply is shown; the next one is answered
            _log.info("a reply failed", exc_info=error)
            if not finished:
                self._tell(
                    news.ReplyFailed(request.id, describe_error(error), isinstance(error, BrokenOffError))
                )
        finally:
            self._requests.pop(request.id, None)
        self._measure_memory(force=True)

    def _read_ahead(self, ahead: _Request, request: PromptRequest) -> Job:
        cancelled = ahead.cancelled.is_set
        try:
            if self._engine is not None and self._engine.info.capabilities.reads_ahead and not cancelled():
                for progress in self._engine.read_ahead(request, cancelled=cancelled):
                    self._tell(news.ReadingAhead(ahead.id, progress))
                    self._measure_memory()
                    yield
        except Exception as error:  # noqa: BLE001 - nobody has asked for it yet
            _log.info("nothing was read ahead", exc_info=error)
        self._tell(news.ReadAheadEnded(ahead.id, cut=cancelled()))
        self._measure_memory(force=True)

    def _reset(self) -> Job:
        if self._engine is not None:
            self._engine.reset()
            self._tell(news.CacheReset())
            self._measure_memory(force=True)
        yield from ()  # a job of one step

    def _answer(self, question: Callable[[Engine], Any], future: Future[Any]) -> Job:
        if not future.set_running_or_notify_cancel():
            return
        try:
            if self._engine is None:
                raise LookupError(NO_MODEL)
            future.set_result(question(self._engine))
        except Exception as error:  # noqa: BLE001 - it is the asker's, carried by the future
            future.set_exception(error)
        self._measure_memory(force=True)  # a question may have moved the cache
        yield from ()  # a job of one step

    def _turn_watch(self, engine: Engine | None) -> None:
        if engine is not None and engine.steps is not None:
            engine.steps.on = self._watching

    def _measure_steps(self) -> None:
        now = self._clock()
        if not self._watching or now < self._steps_due or self._engine is None or self._engine.steps is None:
            return
        self._steps_due = now + STEPS_PERIOD_S
        times = self._engine.steps.take()
        if times is not None:
            self._tell(news.StepsMeasured(times), wake=False)

    def _answer_by(
        self,
        source: Source,
        settings: Settings,
        question: Callable[[Engine], Any],
        on_progress: OnProgress,
        future: Future[Any],
    ) -> Job:
        if not future.set_running_or_notify_cancel():
            return
        try:
            with contextlib.closing(self._open(source, settings, on_progress)) as engine:
                answer = question(engine)
            future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - it is the asker's, carried by the future
            future.set_exception(error)
        self._measure_memory(force=True)
        yield from ()  # a job of one step

    def _measure_memory(self, *, force: bool = False) -> None:
        now = self._clock()
        if self._engine is None or (now < self._memory_due and not force):
            return
        self._memory_due = now + MEMORY_PERIOD_S
        report = self._engine.memory()
        if report is not None:
            self._tell(news.MemoryMeasured(report), wake=force)
