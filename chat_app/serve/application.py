"""The routes: OpenAI's API, and beside it `/tokenize`, `/health` and `/metrics`.

Nothing of a prompt or a reply is written to a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from chat_app.engines.local import advised_values
from chat_app.openai.errors import BadRequest
from chat_app.openai.prepared import Prepared, prepare
from chat_app.openai.requests import Generation, Kind, parse_generation
from chat_app.openai.responses import (
    Head,
    Reply,
    Usage,
    answers_of,
    error_body,
    logprobs_of,
    piece,
    usage_piece,
    whole,
)
from chat_app.openai.tool_formats import ToolReader
from chat_app.serve.embeddings import embeddings_json, encode_input, parse_embeddings
from chat_app.serve.metrics import prometheus
from chat_app.serve.worker import Piece, QueueFullError, Stream, Worker
from llama_core.engine.batch.request import BatchResult, DrawnToken
from llama_core.engine.text import TextEngine
from llama_core.errors import ContextFullError, LlamaCoreError, NotEnoughMemoryError

_log = logging.getLogger(__name__)

# A seed is a number below this; behind the last comes the first again.
SEEDS = 1 << 64
# What nginx calls a request whose client has gone; nobody reads it.
HUNG_UP = 499


class Service:
    """What the routes share. `model_name` is the one name that `/v1/models` tells."""

    def __init__(self, engine: TextEngine, worker: Worker, model_name: str, ctx_size: int) -> None:
        self.engine, self.worker = engine, worker
        self.advice = advised_values(engine.checkpoint)
        self.model_name, self.ctx_size = model_name, ctx_size
        self.created = int(time.time())
        self._told_folding = False
        # One: a template renders, a text is cut; neither holds up the loop or the batch.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="serve-encode")

    def application(self) -> Starlette:
        """The ASGI application; the worker runs while it does."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            self.worker.start(asyncio.get_running_loop())
            try:
                yield
            finally:
                await asyncio.to_thread(self.worker.close)
                self._encoder.shutdown(wait=False)

        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.completion, methods=["POST"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/tokenize", self.tokenize, methods=["POST"]),
                Route("/detokenize", self.detokenize, methods=["POST"]),
                Route("/health", self.health),
                Route("/metrics", self.metrics),
            ],
            exception_handlers={BadRequest: _bad_request, HTTPException: _http_error},
            lifespan=lifespan,
        )

    # Completions.

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`, whole or as a stream."""
        return await self._complete("chat", request)

    async def completion(self, request: Request) -> Response:
        """`POST /v1/completions`, whole or as a stream."""
        return await self._complete("completion", request)

    async def _complete(self, kind: Kind, request: Request) -> Response:
        asked = parse_generation(kind, await _json(request))
        prepared = await asyncio.get_running_loop().run_in_executor(self._encoder, self._prepare, asked)
        n = len(prepared.ids)
        if n >= self.ctx_size:
            full = ContextFullError(n + 1, self.ctx_size)
            raise BadRequest(str(full), "context_length_exceeded")
        head = Head(kind, _new_id(kind), int(time.time()), self.model_name)
        try:
            streams = self._submit(head.id, prepared, asked)
        except QueueFullError as refusal:
            return JSONResponse(
                error_body(str(refusal), "rate_limit_error", "queue_full"),
                status_code=429,
                headers={"Retry-After": str(refusal.retry_s)},
            )
        if asked.stream:
            return await self._streamed(request, head, asked, prepared, streams)
        return await self._whole(request, head, asked, prepared, streams)

    def _prepare(self, asked: Generation) -> Prepared:
        prepared = prepare(asked, self.engine, self.advice)
        template = self.engine.template
        if template is not None and template.system_note and not self._told_folding:
            self._told_folding = True
            _log.warning("%s", template.system_note)
        return prepared

    def _submit(self, name: str, prepared: Prepared, asked: Generation) -> list[Stream]:
        """One stream for each reply. With a seed the replies take it and the ones after it."""
        streams: list[Stream] = []
        try:
            for i in range(asked.n):
                params = prepared.params
                if params.seed is not None:
                    params = replace(params, seed=(params.seed + i) % SEEDS)
                own = replace(prepared, params=params, rules=prepared.rules.copy())
                streams.append(self.worker.submit(f"{name}-{i}", own, asked.top_n))
        except QueueFullError:
            self._cancel(streams)
            raise
        return streams

    def _cancel(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self.worker.cancel(stream.key)

    async def _whole(
        self, request: Request, head: Head, asked: Generation, prepared: Prepared, streams: Sequence[Stream]
    ) -> Response:
        """Wait for all replies, or for the client to hang up."""
        replies = asyncio.gather(*(self._collect(head, asked, prepared, stream) for stream in streams))
        gone = asyncio.ensure_future(_hung_up(request))
        gone.add_done_callback(lambda _: replies.cancel())
        try:
            found = await replies
        except asyncio.CancelledError:
            if not gone.done():  # the server itself ends
                raise
            return Response(status_code=HUNG_UP)
        except LlamaCoreError as error:
            return _failure(error)
        finally:
            gone.cancel()
            self._cancel(streams)
        results = [result for _, result in found]
        return JSONResponse(whole(head, [reply for reply, _ in found], _usage(results)))

    async def _collect(
        self, head: Head, asked: Generation, prepared: Prepared, stream: Stream
    ) -> tuple[Reply, BatchResult]:
        """One reply, whole. Raises LlamaCoreError where it failed."""
        reader = ToolReader(prepared.tools, asked.tool_names, one=asked.one_call)
        texts: list[str] = []
        thoughts: list[str] = []
        tokens: list[DrawnToken] = []
        while isinstance(news := await stream.queue.get(), Piece):
            if news.thought:
                thoughts.append(news.text)
            else:
                texts.append(reader.push(news.text))
            tokens += news.tokens
        if news.error is not None:
            raise news.error
        logprobs = self._logprobs(head.kind, asked, tokens)
        text = "".join([*texts, reader.flush()])
        answers = answers_of(news.scores, prepared.answers)
        return Reply(text, news.reason, logprobs, "".join(thoughts), reader.calls, answers), news

    async def _streamed(
        self, request: Request, head: Head, asked: Generation, prepared: Prepared, streams: Sequence[Stream]
    ) -> Response:
        """Server-sent events, as replies grow. What fails before the first token is still a plain error."""
        merged: asyncio.Queue[tuple[int, Piece | BatchResult]] = asyncio.Queue()

        async def pass_on(index: int, stream: Stream) -> None:
            while True:
                news = await stream.queue.get()
                merged.put_nowait((index, news))
                if isinstance(news, BatchResult):
                    return

        tasks = [asyncio.ensure_future(pass_on(i, stream)) for i, stream in enumerate(streams)]
        first = asyncio.ensure_future(merged.get())
        gone = asyncio.ensure_future(_hung_up(request))
        await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        news = first.result()[1] if first.done() else None
        if news is None or (isinstance(news, BatchResult) and news.error is not None):
            first.cancel()
            for task in tasks:
                task.cancel()
            self._cancel(streams)
            if news is None or news.error is None:
                return Response(status_code=HUNG_UP)
            return _failure(news.error)
        events = self._events(head, asked, prepared, len(streams), first.result(), merged)
        return StreamingResponse(
            self._until_gone(events, tasks, streams),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def _until_gone(
        self, events: AsyncIterator[str], tasks: Sequence[asyncio.Task[None]], streams: Sequence[Stream]
    ) -> AsyncIterator[str]:
        """All events; a client that hangs up frees its places."""
        try:
            async for event in events:
                yield event
        finally:
            for task in tasks:
                task.cancel()
            self._cancel(streams)

    async def _events(
        self,
        head: Head,
        asked: Generation,
        prepared: Prepared,
        n: int,
        item: tuple[int, Piece | BatchResult],
        merged: asyncio.Queue[tuple[int, Piece | BatchResult]],
    ) -> AsyncIterator[str]:
        results: list[BatchResult] = []
        begun: set[int] = set()
        readers = [ToolReader(prepared.tools, asked.tool_names, one=asked.one_call) for _ in range(n)]
        while True:
            index, news = item
            if index not in begun:
                begun.add(index)
                if head.kind == "chat":
                    yield _event(piece(head, index, "", first=True))
            if isinstance(news, Piece):
                logprobs = self._logprobs(head.kind, asked, news.tokens)
                text = news.text if news.thought else readers[index].push(news.text)
                calls = readers[index].new_calls()
                if text or calls or logprobs is not None:
                    yield _event(
                        piece(head, index, text, thought=news.thought, logprobs=logprobs, calls=calls)
                    )
            else:
                results.append(news)
                if news.error is not None:
                    yield _event(error_body(str(news.error), "server_error"))
                    break
                rest, calls = readers[index].flush(), readers[index].new_calls()
                if rest or calls:
                    yield _event(piece(head, index, rest, calls=calls))
                answers, called = answers_of(news.scores, prepared.answers), bool(readers[index].calls)
                yield _event(piece(head, index, None, reason=news.reason, called=called, answers=answers))
                if len(results) == n:
                    break
            item = await merged.get()
        if asked.include_usage and len(results) == n:
            yield _event(usage_piece(head, _usage(results)))
        yield "data: [DONE]\n\n"

    def _logprobs(self, kind: Kind, asked: Generation, tokens: Sequence[DrawnToken]) -> dict[str, Any] | None:
        return None if asked.top_n is None else logprobs_of(kind, tokens, self._describe)

    def _describe(self, token_id: int) -> tuple[str, bytes]:
        """The text of a token, and its bytes."""
        tokenizer = self.engine.tokenizer
        try:
            data = tokenizer.token_bytes(token_id)
        except IndexError:  # rows of the model beyond the tokenizer's tokens
            return "", b""
        return (data.decode("utf-8", "replace") if data else tokenizer.token_text(token_id)), data

    # What stands beside them.

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/embeddings`: each text as a vector. Raises BadRequest."""
        asked = parse_embeddings(await _json(request), self.engine.model.config.dim)
        loop = asyncio.get_running_loop()
        texts = [
            await loop.run_in_executor(self._encoder, encode_input, item, self.engine)
            for item in asked.inputs
        ]
        work = asyncio.ensure_future(self._embedded(texts))
        gone = asyncio.ensure_future(_hung_up(request))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not work.done():
            work.cancel()
            return Response(status_code=HUNG_UP)
        try:
            vectors = work.result()
        except LlamaCoreError as error:
            return _failure(error)
        tokens = sum(map(len, texts))
        return JSONResponse(embeddings_json(vectors, asked, model=self.model_name, tokens=tokens))

    async def _embedded(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """One after the other: each has a cache of its own while it is computed."""
        return [await self.worker.embed(ids) for ids in texts]

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the one model there is."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/NAME`: 404 where it has another name."""
        name = request.path_params["name"]
        if name != self.model_name:
            text = f"the model {name!r} is not here; {self.model_name} is"
            return JSONResponse(error_body(text, code="model_not_found"), status_code=404)
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        return {
            "id": self.model_name,
            "object": "model",
            "created": self.created,
            "owned_by": "llama-chat",
            "meta": {"n_ctx": self.ctx_size, "n_vocab": self.engine.model.config.vocab_size},
        }

    async def tokenize(self, request: Request) -> Response:
        """`content` to ids; `add_special`: BOS where the model asks for it; `parse_special`: control tokens
        in the text count."""
        body = await _json(request)
        content = body.get("content")
        if not isinstance(content, str):
            raise BadRequest("body.content is not text", "invalid_type", "body.content")
        if body.get("add_special"):
            tokenizer = self.engine.tokenizer
            begins = bool(content) or tokenizer.add_bos  # an empty raw prompt is BOS for every model
            return JSONResponse({"tokens": self.engine.encode_raw(content) if begins else []})
        special = bool(body.get("parse_special"))
        return JSONResponse({"tokens": self.engine.tokenizer.encode(content, special=special)})

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`: the text of `tokens`. Raises BadRequest for ids that are none."""
        ids = (await _json(request)).get("tokens")
        size = self.engine.model.config.vocab_size
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < size for i in ids):
            raise BadRequest(f"body.tokens is no list of ids from 0 to {size - 1}", param="body.tokens")
        return JSONResponse({"content": self.engine.tokenizer.decode(ids)})

    async def health(self, request: Request) -> Response:
        """`GET /health`: it answers, so it is well."""
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics` in Prometheus's text format."""
        return PlainTextResponse(prometheus(self.worker.load()), media_type="text/plain; version=0.0.4")


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", "invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object", "invalid_json")
    return body


async def _hung_up(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _usage(results: Sequence[BatchResult]) -> Usage:
    """A prompt counts once, however many replies it has."""
    first = results[0]
    cached_n = min(result.cached_n for result in results)
    return Usage(first.prompt_n, cached_n, sum(len(result.ids) for result in results))


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _new_id(kind: Kind) -> str:
    return ("chatcmpl-" if kind == "chat" else "cmpl-") + uuid.uuid4().hex


def _failure(error: LlamaCoreError) -> Response:
    """A reply that failed: the request's fault, or ours."""
    if isinstance(error, ContextFullError):
        return JSONResponse(error_body(str(error), code="context_length_exceeded"), status_code=400)
    if isinstance(error, NotEnoughMemoryError):
        return JSONResponse(error_body(str(error), "server_error", "kv_budget_exceeded"), status_code=503)
    return JSONResponse(error_body(str(error), "server_error"), status_code=500)


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return JSONResponse(error_body(str(error), code=error.code, param=error.param), status_code=400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(text), status_code=error.status_code, headers=error.headers)
