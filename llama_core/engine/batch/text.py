"""Batches of texts: prompts as ids in, replies as text out, stop strings included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llama_core.engine.batch.request import BatchReason, BatchRequest, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.rules import NO_RULES, TokenRules
from llama_core.engine.stops import StopScanner
from llama_core.errors import LlamaCoreError
from llama_core.sampling import SamplingParams
from llama_core.tokenizers.base import Tokenizer


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A prompt, already encoded (`TextEngine.encode_chat` or `encode_raw`), to be continued. rules: what
    `TextEngine.rules` makes of the parameters."""

    key: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    rules: TokenRules = NO_RULES


@dataclass(frozen=True, slots=True)
class TextResult:
    """A reply. `reply_n` counts its tokens, drawn from `seed`; reason "failed" comes with the error and the
    text so far."""

    key: str
    text: str
    reason: BatchReason
    prompt_n: int
    reply_n: int
    seed: int
    error: LlamaCoreError | None = None


class _Text:
    """The text of one reply as its tokens come."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._decoder = tokenizer.stream()
        self._scanner = StopScanner(stops)
        self._parts: list[str] = []

    def push(self, token: DrawnToken) -> bool:
        """Take one token; whether it completed a stop string."""
        self._parts.append(self._scanner.push(self._decoder.push(token.id)))
        return self._scanner.stopped

    def finish(self) -> str:
        """All of the text, without the stop string."""
        self._parts += [self._scanner.push(self._decoder.flush()), self._scanner.flush()]
        return "".join(self._parts)


def run_texts(
    batch: BatchEngine,
    tokenizer: Tokenizer,
    requests: Iterable[TextRequest],
    cancelled: Callable[[], bool] | None = None,
    on_step: Callable[[], None] | None = None,
) -> Iterator[TextResult]:
    """Results as they are done (see `BatchEngine.run`). Requests under way together need different keys."""
    texts: dict[str, _Text] = {}

    def encode() -> Iterator[BatchRequest]:
        for request in requests:
            text = texts[request.key] = _Text(tokenizer, request.params.stop)
            ids = tuple(request.prompt_ids)
            yield BatchRequest(
                request.key, ids, request.params, tokenizer.stop_ids, text.push, rules=request.rules
            )

    for result in batch.run(encode(), cancelled, on_step):
        text = texts.pop(result.key).finish()
        reply_n = len(result.ids)
        yield TextResult(result.key, text, result.reason, result.prompt_n, reply_n, result.seed, result.error)
