"""Batches of texts: prompts as ids in, replies as text out, stop strings included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llama_core.engine.batch.request import BatchReason, BatchRequest, DrawnToken
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.reply.closed_thought import ClosedThought
from llama_core.engine.reply.text import ReplyText
from llama_core.engine.rules import NO_RULES, TokenRules
from llama_core.engine.scoring import Answer, ScoredAnswer
from llama_core.errors import LlamaCoreError
from llama_core.events import TextDelta
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import ThinkingFormat


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A prompt, already encoded (`TextEngine.encode_chat` or `encode_raw`), to be continued. rules: what
    `TextEngine.rules` makes of the parameters. thinking: the markers of the model, where its thoughts are to
    be told apart. answers: what is scored instead of drawing a reply, its tokens and its text."""

    key: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    rules: TokenRules = NO_RULES
    thinking: ThinkingFormat | None = None
    answers: Mapping[Answer, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextResult:
    """A reply. `reply_n` counts its tokens, drawn from `seed`; reason "failed" comes with the error and the
    text so far. thought: the reasoning before the text, where it was told apart. scores: of the request's
    answers; the text is then the likeliest one's. cached_n: see `BatchResult`."""

    key: str
    text: str
    reason: BatchReason
    prompt_n: int
    reply_n: int
    seed: int
    error: LlamaCoreError | None = None
    thought: str = ""
    scores: tuple[ScoredAnswer, ...] = ()
    cached_n: int = 0


class _Text:
    """The text of one reply as its tokens come."""

    def __init__(self, tokenizer: Tokenizer, request: TextRequest) -> None:
        self._text = ReplyText(
            tokenizer, request.params.stop, thinking=request.thinking, prompt_ids=request.prompt_ids
        )
        self._deltas: list[TextDelta] = []
        self.closing = ClosedThought(self._text, request.thinking, request.params)

    def push(self, token: DrawnToken) -> bool:
        """Take one token; whether it completed a stop string."""
        self._deltas += self._text.push(token.id)
        return self._text.stopped

    def finish(self) -> tuple[str, str]:
        """(the thought, the text without the stop string)."""
        deltas = self._deltas + self._text.flush()
        thought = "".join(delta.text for delta in deltas if delta.thought)
        return thought, "".join(delta.text for delta in deltas if not delta.thought)


def run_texts(
    batch: BatchEngine,
    tokenizer: Tokenizer,
    requests: Iterable[TextRequest],
    cancelled: Callable[[], bool] | None = None,
    on_step: Callable[[], None] | None = None,
) -> Iterator[TextResult]:
    """Results as they are done (see `BatchEngine.run`). Requests under way together need different keys."""
    texts: dict[str, _Text] = {}
    answers: dict[str, Mapping[Answer, str]] = {}

    def encode() -> Iterator[BatchRequest]:
        for request in requests:
            text = texts[request.key] = _Text(tokenizer, request)
            ids = tuple(request.prompt_ids)
            answers[request.key] = request.answers
            yield BatchRequest(
                request.key,
                ids,
                request.params,
                tokenizer.stop_ids,
                text.push,
                rules=request.rules,
                answers=tuple(request.answers),
                dictated=text.closing.ids,
            )

    for result in batch.run(encode(), cancelled, on_step):
        thought, text = texts.pop(result.key).finish()
        named = answers.pop(result.key)
        yield TextResult(
            result.key,
            named[result.ids] if result.scores else text,
            result.reason,
            result.prompt_n,
            len(result.ids),
            result.seed,
            result.error,
            thought,
            result.scores,
            result.cached_n,
        )
