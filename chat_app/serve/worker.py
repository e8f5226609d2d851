"""The one thread that owns the model: requests join its batch, and each hears of its own tokens.

What the thread says travels once a pass, for all requests together, to the event loop of the server. A client
that reads slowly holds up nobody: what it has not read yet waits in its own queue.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from chat_app.openai.prepared import Prepared
from llama_core.backends.base import Model
from llama_core.engine.batch.request import BatchRequest, BatchResult, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.embedding import MeanState
from llama_core.engine.reply.closed_thought import ClosedThought
from llama_core.engine.reply.text import ReplyText
from llama_core.engine.scoring import Answer
from llama_core.errors import LlamaCoreError
from llama_core.events import TextDelta
from llama_core.tokenizers.base import Tokenizer

_log = logging.getLogger(__name__)

# Rates are taken over this long.
WINDOW_S = 5.0
# Of a text that becomes a vector, tokens at once: beside others' passes, and alone.
FEW_TOKENS, MANY_TOKENS = 32, 512
NO_ANSWERS: Mapping[Answer, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown, or a thought, and the tokens that made it."""

    text: str
    tokens: tuple[DrawnToken, ...]
    thought: bool = False


News = Piece | BatchResult


@dataclass(frozen=True, slots=True)
class Load:
    """What the worker does now, and has done since it started. Rates are of the last seconds."""

    waiting: int
    running: int
    requests: int
    prompt_tokens: int
    reused_tokens: int
    drawn_tokens: int
    tokens_per_s: float
    kv_bytes: int
    prefix_bytes: int
    uptime_s: float


class QueueFullError(Exception):
    """No more requests may wait. `retry_s`: when there may be room again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_s} s")
        self.retry_s = retry_s


class Stream:
    """The news of one request, in order, on the event loop that asked for it."""

    def __init__(self, key: str, text: ReplyText, answers: Mapping[Answer, str] = NO_ANSWERS) -> None:
        """answers: those that are scored instead of drawing a reply; the likeliest is the text."""
        self.key = key
        self._answers = answers
        self.queue: asyncio.Queue[News] = asyncio.Queue()
        self._text = text
        self._tokens: list[DrawnToken] = []
        self.pieces: list[News] = []  # not yet sent to the loop

    def on_token(self, token: DrawnToken) -> bool:
        """Take a token; whether it completed a stop string. On the worker's thread."""
        self._tokens.append(token)
        self._say(self._text.push(token.id))
        return self._text.stopped

    def finish(self, result: BatchResult) -> None:
        """The reply has ended: what was held back is shown. On the worker's thread."""
        self._say([TextDelta(self._answers[result.ids])] if result.scores else self._text.flush())
        if self._tokens:
            self.pieces.append(Piece("", tuple(self._tokens)))
        self.pieces.append(result)

    def _say(self, deltas: Sequence[TextDelta]) -> None:
        for delta in deltas:
            self.pieces.append(Piece(delta.text, tuple(self._tokens), delta.thought))
            self._tokens.clear()


class _Embedding:
    """A text on its way to a vector. On the worker's thread but for its end."""

    def __init__(
        self,
        ids: Sequence[int],
        future: asyncio.Future[NDArray[np.float32]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._ids, self._future, self._loop = ids, future, loop
        self._state: MeanState | None = None

    def advance(self, model: Model, n: int) -> bool:
        """Compute at most `n` tokens more; whether there is something left. What goes wrong is the
        future's."""
        if self._future.cancelled():
            return False
        try:
            self._state = self._state or MeanState(model, self._ids)
            if not self._state.advance(n):
                return True
            result, error = self._state.mean(), None
        except LlamaCoreError as failure:
            result, error = np.empty(0, dtype=np.float32), failure
        self._loop.call_soon_threadsafe(self._settle, result, error)
        return False

    def _settle(self, result: NDArray[np.float32], error: LlamaCoreError | None) -> None:
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


class Worker:
    """Runs the batch. `submit` and `cancel` are called on the event loop; `close` ends the thread.

    queue_n: the most requests that wait.
    """

    def __init__(
        self,
        batch: BatchEngine,
        tokenizer: Tokenizer,
        *,
        queue_n: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batch, self._tokenizer = batch, tokenizer
        self._queue_n = queue_n
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._streams: dict[str, Stream] = {}
        self._closed = False
        self._requests = self._prompt_tokens = 0
        self._began_s = clock()
        self._drawn: deque[tuple[float, int]] = deque([(self._began_s, 0)])
        self._thread = threading.Thread(target=self._work, name="serve-engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work; news go to `loop`."""
        self._loop = loop
        self._thread.start()

    def submit(self, key: str, prepared: Prepared, top_n: int | None) -> Stream:
        """Queue a request; its constraint is the worker's from now on. Raises QueueFullError."""
        waiting = len(self._streams) - self._batch.running_n
        if waiting >= self._queue_n:
            raise QueueFullError(self._retry_s(waiting))
        params = prepared.params
        text = ReplyText(self._tokenizer, params.stop, thinking=prepared.thinking, prompt_ids=prepared.ids)
        stream = Stream(key, text, prepared.answers)
        request = BatchRequest(
            key,
            prepared.ids,
            params,
            self._tokenizer.stop_ids,
            stream.on_token,
            top_n=top_n or 0,
            rules=prepared.rules,
            answers=tuple(prepared.answers),
            dictated=ClosedThought(text, prepared.thinking, params).ids,
        )
        self._streams[key] = stream
        self._requests += 1
        self._prompt_tokens += len(request.prompt_ids)
        self._post(lambda: self._batch.submit(request))
        return stream

    def embed(self, ids: Sequence[int]) -> asyncio.Future[NDArray[np.float32]]:
        """The mean hidden state of a text, (dim,) float32, computed between passes; LlamaCoreError is the
        future's. Cancelled, it is left where it stands."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        self._requests += 1
        self._prompt_tokens += len(ids)
        self._post(lambda: self._embed_on(_Embedding(ids, future, loop)))
        return future

    def cancel(self, key: str) -> None:
        """Nobody wants the reply any more: its place is free before the next pass."""
        self._post(lambda: self._cancel(key))

    def load(self) -> Load:
        """The numbers of this moment."""
        batch = self._batch
        first_s, first_n = self._drawn[0]
        last_s, last_n = self._drawn[-1]
        busy_s = last_s - first_s
        idle = self._clock() - last_s > WINDOW_S
        return Load(
            waiting=max(0, len(self._streams) - batch.running_n),
            running=batch.running_n,
            requests=self._requests,
            prompt_tokens=self._prompt_tokens,
            reused_tokens=batch.tokens_reused,
            drawn_tokens=batch.tokens_drawn,
            tokens_per_s=(last_n - first_n) / busy_s if busy_s > 0 and not idle else 0.0,
            kv_bytes=batch.kv_bytes,
            prefix_bytes=batch.prefixes.nbytes,
            uptime_s=self._clock() - self._began_s,
        )

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread; requests under way are cancelled."""
        self._closed = True
        self._post(lambda: None)
        self._thread.join(timeout_s)

    def _retry_s(self, waiting: int) -> int:
        """How long those that wait will take, by what the ones before took."""
        done = max(1, self._requests - len(self._streams))
        each_s = (self._clock() - self._began_s) / done
        return min(60, max(1, round(each_s * waiting / max(1, self._batch.running_n))))

    def _post(self, job: Callable[[], None]) -> None:
        with self._turn:
            self._jobs.append(job)
            self._turn.notify()

    def _cancel(self, key: str) -> None:
        result = self._batch.cancel(key)
        if result is not None:
            self._finish([result])

    # On the thread.

    def _work(self) -> None:
        while not self._closed:
            with self._turn:
                while not (self._jobs or self._closed or self._batch.waiting_n or self._batch.running_n):
                    self._turn.wait()
                jobs, self._jobs = self._jobs, deque()
            for job in jobs:
                job()
            if self._batch.waiting_n or self._batch.running_n:
                self._step()
        for key in list(self._streams):
            self._cancel(key)
        self._send()
        self._batch.close()

    def _embed_on(self, task: _Embedding) -> None:
        """A few tokens more of a text; others' passes come between."""
        busy = self._batch.waiting_n or self._batch.running_n
        if task.advance(self._batch.model, FEW_TOKENS if busy else MANY_TOKENS) and not self._closed:
            self._post(lambda: self._embed_on(task))

    def _step(self) -> None:
        """One pass. Whatever goes wrong ends the requests that took part in it, and nothing else."""
        try:
            done = self._batch.step()
        except Exception as error:  # noqa: BLE001 - a server outlives whatever one pass does
            _log.error("a pass failed", exc_info=error)
            failure = LlamaCoreError("the engine failed while it computed this reply")
            done = []
            for key in list(self._streams):
                result = self._batch.cancel(key)
                if result is not None:
                    done.append(BatchResult(key, "failed", result.ids, result.prompt_n, result.seed, failure))
        self._note_rate()
        self._finish(done)

    def _note_rate(self) -> None:
        now_s = self._clock()
        self._drawn.append((now_s, self._batch.tokens_drawn))
        while len(self._drawn) > 2 and now_s - self._drawn[0][0] > WINDOW_S:
            self._drawn.popleft()

    def _finish(self, results: Sequence[BatchResult]) -> None:
        """The streams of `results` end; all news of this pass are sent."""
        for result in results:
            stream = self._streams.get(result.key)
            if stream is not None:
                stream.finish(result)
        self._send()
        for result in results:
            self._streams.pop(result.key, None)

    def _send(self) -> None:
        news = []
        for stream in list(self._streams.values()):
            if stream.pieces:
                news.append((stream.queue, stream.pieces))
                stream.pieces = []
        if news and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, news)


def _deliver(news: Sequence[tuple[asyncio.Queue[News], Sequence[News]]]) -> None:
    for queue, pieces in news:
        for piece in pieces:
            queue.put_nowait(piece)
