"""The engine of a chat that computes on a server: OpenAI's API behind the chat's protocol."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from chat_app.config.endpoints import Endpoint
from chat_app.engines.base import (
    BrokenOffError,
    Capabilities,
    EngineInfo,
    NotCapableError,
    OnProgress,
    Prompt,
    PromptRequest,
    ToldTogether,
    never,
)
from chat_app.engines.remote.answer import Answer
from chat_app.engines.remote.client import Client, ServerError
from chat_app.engines.remote.dialects import TOP_LOGPROBS, without_refused
from chat_app.engines.remote.discovery import Server, discover
from chat_app.engines.remote.loop import LoopThread
from chat_app.engines.remote.patience import Patience
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line
from llama_core.events import Event, LoadProgress, PrefillProgress
from llama_core.sampling.params import SamplingParams

_log = logging.getLogger(__name__)

POLL_S = 0.05  # how soon a reply that says nothing is stopped
OPEN_S = 30.0
MAX_SEED = 1 << 31


class _Cancelled(Exception):  # noqa: N818 - it is not an error to its caller
    """The user stopped the reply."""


def open_remote_engine(endpoint: Endpoint, on_progress: OnProgress) -> RemoteEngine:
    """An engine that asks `endpoint`. Raises SentenceError where the server does not answer, needs a key, or
    has several models of which none is named."""
    on_progress(LoadProgress("connecting", 0, 0, _warning(endpoint)))
    loop = LoopThread("remote")
    client = Client(endpoint)
    try:
        server = loop.submit(discover(client)).result(OPEN_S)
    except BaseException as error:  # Ctrl+C too: the loop has a thread
        loop.close(client.close())
        if isinstance(error, TimeoutError):
            raise SentenceError(f"{endpoint.host}: The server does not answer.") from None
        raise
    return RemoteEngine(client, loop, server)


def _warning(endpoint: Endpoint) -> str:
    """What the user should know before anything is sent."""
    if endpoint.is_private:
        return ""
    return f"What is said goes to {endpoint.host} unencrypted (http): others on the way can read it."


class RemoteEngine:
    """`Engine` on a server. It closes the client and the loop, which are its own."""

    tokens = None

    def __init__(
        self,
        client: Client,
        loop: LoopThread,
        server: Server,
        *,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        dialect, ctx_size = server.dialect, server.ctx_size
        self._client, self._loop, self._dialect, self._model = client, loop, dialect, server.model
        self._patience = patience or Patience()
        self._clock = clock
        self._refused: set[str] = set()  # fields that the server does not take
        self._closed = False
        endpoint = client.endpoint
        self.info = EngineInfo(
            name=clean_line(server.model),
            path=None,
            backend=f"remote ({dialect.kind})",
            threads=0,
            ctx_size=ctx_size,
            file_bytes=0,
            has_template=True,
            architecture="",
            capabilities=Capabilities(
                tokens=False,
                logits=False,
                reset=False,
                continues=dialect.go_on is not None,
                raw=dialect.raw,
            ),
            host=endpoint.host,
            untold=dialect.untold if ctx_size else f"{dialect.untold}, context size",
        )

    def prepare(self, request: PromptRequest) -> Prompt:
        """The turns as they are: the server renders, counts and bounds them. Raises NotCapableError."""
        if request.raw and not self._dialect.raw:
            raise NotCapableError(f"{self.info.name} takes no prompt without a chat template.")
        unheard = self._dialect.unheard(request.params)
        notes = (
            (f"The server is not told {', '.join(unheard)}: it has no field for that.",) if unheard else ()
        )
        return Prompt(
            request.turns,
            None,
            limit=self.info.ctx_size,
            notes=notes,
            continue_last=request.continue_last,
            raw=request.raw,
        )

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        cancelled: Callable[[], bool],
        answer_now: Callable[[], bool] = never,
    ) -> Iterator[Event]:
        """As `Engine.stream`. Raises ServerError where nothing came, BrokenOffError where it ended midway."""
        if params.seed is None and params.temperature > 0:
            seed = random.randrange(MAX_SEED)
        else:
            seed = params.seed or 0
        path, body = self._request(prompt, params, seed)
        answer = Answer(self._clock())
        failed = 0
        try:
            while True:
                try:
                    for piece, at_s in self._pieces(path, body, cancelled):
                        yield from answer.take(piece, at_s)
                    break
                except ServerError as error:
                    if answer.has_begun:
                        raise self._broken(error) from None
                    smaller = self._smaller(body, error)
                    if smaller is not None:
                        body = smaller
                        continue
                    failed += 1
                    wait_s = self._patience.wait_s(error, failed)
                    if wait_s is None:
                        raise
                    yield LoadProgress("waiting", 0, 0)
                    self._wait(wait_s, cancelled)
        except _Cancelled:
            yield answer.finished("cancelled", seed)
            return
        yield answer.finished(None, seed)

    def stream_together(
        self, replies: Sequence[tuple[Prompt, SamplingParams]], *, cancelled: Callable[[], bool]
    ) -> Iterator[ToldTogether]:
        """One after the other."""
        for place, (prompt, params) in enumerate(replies):
            try:
                yield from ((place, event) for event in self.stream(prompt, params, cancelled=cancelled))
            except (ServerError, BrokenOffError) as error:
                yield place, error

    def _request(self, prompt: Prompt, params: SamplingParams, seed: int) -> tuple[str, dict[str, Any]]:
        """(path, body) of a request."""
        body: dict[str, Any] = {"model": self._model, "stream": True, **self._dialect.to_body(params)}
        body["stream_options"] = {"include_usage": True}
        if params.temperature > 0:
            body["seed"] = seed
        if self._dialect.progress:
            body["return_progress"] = True
        wants_logprobs = self._client.endpoint.logprobs
        if prompt.raw:
            body |= {"prompt": prompt.turns[-1].content}
            body |= {"logprobs": TOP_LOGPROBS} if wants_logprobs else {}
        else:
            body["messages"] = [turn.to_message() for turn in prompt.turns]
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if wants_logprobs else {}
            if prompt.continue_last:
                body |= self._dialect.go_on or {}
        kept = {name: value for name, value in body.items() if name not in self._refused}
        return "/completions" if prompt.raw else "/chat/completions", kept

    def _smaller(self, body: Mapping[str, Any], error: ServerError) -> dict[str, Any] | None:
        """The request without a field that the server refused, which is remembered."""
        if error.status not in (400, 422):
            return None
        smaller = without_refused(body, error.param, str(error))
        if smaller is not None:
            self._refused |= body.keys() - smaller.keys() - {"max_tokens"}
            _log.info("a server refuses %s", ", ".join(sorted(body.keys() - smaller.keys())))
        return smaller

    def _broken(self, error: ServerError) -> BrokenOffError:
        how = "/continue goes on with it" if self._dialect.go_on is not None else "/regen asks again"
        return BrokenOffError(f"{error} What came is kept; {how}.")

    def _pieces(
        self, path: str, body: Mapping[str, Any], cancelled: Callable[[], bool]
    ) -> Iterator[tuple[dict[str, Any], float]]:
        """The pieces of an answer and when each came. Raises ServerError, _Cancelled."""
        inbox: queue.SimpleQueue[tuple[dict[str, Any], float] | Exception | None] = queue.SimpleQueue()

        async def pump() -> None:
            try:
                async for piece in self._client.stream(path, body):
                    inbox.put((piece, self._clock()))
                inbox.put(None)
            except Exception as error:  # noqa: BLE001 - carried to the thread that reads
                inbox.put(error)

        pumping = self._loop.submit(pump())
        try:
            while True:
                if cancelled():
                    raise _Cancelled
                try:
                    item = inbox.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            pumping.cancel()  # the connection is dropped, and the server's work with it

    def _wait(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            if cancelled():
                raise _Cancelled
            time.sleep(min(left, POLL_S))

    def restore(self, request: PromptRequest) -> None:
        """What a server keeps it looks for itself."""

    def read_ahead(
        self, request: PromptRequest, *, cancelled: Callable[[], bool]
    ) -> Iterator[PrefillProgress]:
        """Nothing is sent to a server before Enter."""
        yield from ()

    def reset(self) -> None:
        """The server's cache is its own. Raises NotCapableError."""
        raise NotCapableError(f"{self.info.name} keeps no cache that could be reset from here.")

    def memory(self) -> None:
        """Its memory is on the other machine."""

    @property
    def steps(self) -> None:
        """Its steps are computed on the other machine."""

    def close(self) -> None:
        """Drop all connections. May be called twice."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(RuntimeError):  # the interpreter ends, and with it the loop
                self._loop.close(self._client.close())
