"""One reply while it grows: events in, the message for the transcript out. Knows no screen and no disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from chat_app.chat.conversation import Message, Status, sees_from, thought_of, token_ids
from chat_app.chat.recall import sampling_json
from chat_app.chat.token_scores import TokenScores, without_scores
from chat_app.engines.base import EngineInfo, Prompt
from llama_core.events import (
    UNKNOWN_ID,
    Event,
    Finished,
    LoopFound,
    PrefillProgress,
    TextDelta,
    ThoughtClosed,
    Timings,
    TokenEvent,
)
from llama_core.sampling.params import SamplingParams

if TYPE_CHECKING:
    from chat_app.config.settings import Settings


# Why a reply ended before the model meant it to.
ENDINGS = {
    "length": "stopped at num_predict",
    "context": "stopped: the context is full",
    "cancelled": "stopped; what is there is kept",
    "loop": "stopped: it repeated itself",
}


CHECKPOINT_PERIOD_S = 1.0
# Of whom a reply's "guest" says that nothing else is other than the chat's own than its model.
THIS_REPLY = "this reply alone"


@dataclass(slots=True)
class ThoughtNumbers:
    """A thought so far: `n`, the reply's tokens up to its end, and the seconds that this request took for it.
    closed_at: the token before which it was ended from outside."""

    n: int = 0
    seconds: float = 0.0
    closed_at: int | None = None


@dataclass(slots=True)
class GrowingReply:
    """The reply that the engine writes now.

    `message` is its first state; its content is what stood there before this request (a reply that is
    continued, or begun by hand), of which `prompt` has the tokens. `tokens` are this request's. saved_at:
    when it was last saved, in seconds of the caller's clock.
    """

    request_id: int
    message: Message
    details: Mapping[str, Any]
    parts: list[str] = field(default_factory=list)
    thought_parts: list[str] = field(default_factory=list)
    thought: ThoughtNumbers = field(default_factory=ThoughtNumbers)
    loop: Mapping[str, int] | None = None  # see `_loop`
    lengths: list[int] = field(default_factory=list)  # of the answer, before each token of this request
    length: int = 0
    tokens: list[TokenEvent] = field(default_factory=list)
    finished: Finished | None = None
    changed: bool = False  # since then
    saved_at: float = 0.0
    prompt_n: int = 0
    prompt: Prompt | None = None
    seed: int | None = None  # None: the engine's own, told at the end
    prefill: PrefillProgress | None = None  # the last of this request

    def take(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, TextDelta):
            (self.thought_parts if event.thought else self.parts).append(event.text)
            self.length += 0 if event.thought else len(event.text)
            self.changed = True
        elif isinstance(event, TokenEvent):
            self.tokens.append(event)
            self.lengths.append(self.length)
            if event.thought:
                self.thought.n = len(self.start_ids) + event.index + 1
                self.thought.seconds += event.step_s
        elif isinstance(event, LoopFound):
            self.loop = self._loop(event)
        elif isinstance(event, ThoughtClosed):
            self.thought.closed_at = len(self.start_ids) + event.index
        elif isinstance(event, PrefillProgress):
            self.prompt_n = event.cached_n + event.total_n
            self.prefill = event
        elif isinstance(event, Finished):
            self.finished = event
            if not self.prompt_n:  # an engine elsewhere tells it at the end
                self.prompt_n = event.timings.cache_n + event.timings.prompt_n

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The tokens of what stood there before, as the engine read them."""
        begun_n = 0 if self.prompt is None else self.prompt.begun_n
        return () if self.prompt is None or not begun_n else (self.prompt.ids or ())[-begun_n:]

    @property
    def content(self) -> str:
        """The text so far, with what stood there when the reply was continued."""
        return self.message.content + "".join(self.parts)

    @property
    def thinking(self) -> bool:
        """Whether the last token was part of a thought."""
        return bool(self.tokens) and self.tokens[-1].thought

    def checkpoint(self, now: float) -> Message | None:
        """The reply so far, marked partial, where it is time to save it: once a second, if it has grown."""
        if not self.changed or now < self.saved_at + CHECKPOINT_PERIOD_S:
            return None
        self.changed, self.saved_at = False, now
        return replace(self.message, content=self.content, status="partial", x=self._x())

    def stopped(self) -> Message:
        """The reply as it is when the app must leave now."""
        x = {**self._x(), "stop_reason": "cancelled"}
        return replace(self.message, content=self.content, status="stopped", x=x)

    def failed(self, reason: str, *, is_sound: bool = False) -> Message:
        """The message that is kept after an error: the text so far, and why it ended. What `is_sound` counts
        as stopped: it is sent again with what follows, and can go on."""
        status: Status = "stopped" if is_sound else "failed"
        return replace(self.message, content=self.content, status=status, x={**self._x(), "error": reason})

    def ended(self) -> Message:
        """The finished reply, with everything that is needed to judge it or to draw it again."""
        assert self.finished is not None, "ended() before Finished"
        status: Status = "stopped" if self.finished.reason == "cancelled" else "complete"
        return replace(self.message, content=self.content, status=status, x=self._x())

    def _x(self) -> dict[str, Any]:
        start_ids = self.start_ids
        ids = start_ids + tuple(token.id for token in self.tokens if token.id != UNKNOWN_ID)
        x: dict[str, Any] = {**without_scores(self.message.x), **self.details, "ids": list(ids)}
        for earlier in ("loop", "stop_reason"):
            x.pop(earlier, None)
        x |= self._scores().details() | self._thought()
        if self.loop is not None:
            x["loop"] = dict(self.loop)
        if self.finished is not None:
            # The engine leaves the end token and anything after a stop string out of its own list.
            x["ids"] = [*start_ids, *self.finished.ids]
            x["stop_reason"] = self.finished.reason
        seed = self.finished.seed if self.finished is not None else self.seed
        if seed is not None:
            x["seed"] = seed
        timings = self.finished.timings if self.finished is not None else self._timings()
        if timings is not None:
            x["timings"] = _with_earlier(timings.to_json(), self.message.x.get("timings"))
        if self.prompt_n:
            start = max(0, self.prompt_n - len(start_ids))
            x["context"] = [start, start + (len(x["ids"]) or len(self.tokens))]
        return x

    def _timings(self) -> Timings | None:
        """What the reply has cost so far, for one that is cut before the engine tells; None before its first
        token."""
        if not self.tokens:
            return None
        prefill = self.prefill or PrefillProgress(0, 0, 0, 0.0)
        first, *later = self.tokens
        drafted_n = sum(token.drafted for token in self.tokens)
        return Timings(
            cache_n=prefill.cached_n,
            prompt_n=prefill.done_n,
            prompt_s=prefill.prefill_s,
            predicted_n=len(self.tokens),
            predicted_s=sum(token.step_s for token in later),
            ttft_s=prefill.prefill_s + first.step_s,
            draft_n=drafted_n,
            draft_accepted_n=drafted_n,
        )

    def _loop(self, found: LoopFound) -> dict[str, int]:
        """Where a loop begins: the reply's token, and the character of its answer (-1: in the thought)."""
        in_thought = self.tokens[found.begin].thought
        at = -1 if in_thought else len(self.message.content) + self.lengths[found.begin]
        begin = len(self.start_ids) + found.begin
        return {"begin": begin, "at": at, "span_n": found.span_n, "rounds": found.rounds}

    def _thought(self) -> dict[str, Any]:
        """What is known of the thought, what was there before this request included."""
        before = self.message.x
        text = thought_of(self.message) + "".join(self.thought_parts)
        if not (text or self.thought.n):
            return {}
        known = {
            "thought": text,
            "thought_n": self.thought.n or int(before.get("thought_n", 0)),
            "thought_s": float(before.get("thought_s", 0.0)) + self.thought.seconds,
        }
        return (
            known if self.thought.closed_at is None else {**known, "thought_closed": self.thought.closed_at}
        )

    def _scores(self) -> TokenScores:
        """How likely each token was, what stood there before included."""
        chars = [end - begin for begin, end in pairwise([*self.lengths, self.length])]
        return self._begun().then([token.logprob for token in self.tokens], chars)

    def _begun(self) -> TokenScores:
        """How likely each token was of what stood there before. An engine that keeps its tokens to itself
        counts on from those that were told."""
        scores, start_ids = TokenScores.of(self.message), self.start_ids
        if self.prompt is not None and self.prompt.ids is None:
            return scores
        same_n = len(start_ids) if start_ids == token_ids(self.message) else 0  # another model's are others
        return scores.begun(self.message.content, same_n, len(start_ids))

    @property
    def begun_n(self) -> int:
        """How many tokens stood there before, as far as they are known."""
        return len(self._begun())

    def segment(self) -> tuple[int, int]:
        """(positions of the context before the reply, positions of the reply so far)."""
        return max(0, self.prompt_n - len(self.start_ids)), len(self.start_ids) + len(self.tokens)


def _with_earlier(timings: dict[str, Any], earlier: object) -> dict[str, Any]:
    """A continued reply counts all of its tokens and their time."""
    if not isinstance(earlier, Mapping):
        return timings
    n = timings["predicted_n"] + earlier.get("predicted_n", 0)
    ms = timings["predicted_ms"] + earlier.get("predicted_ms", 0.0)
    parts = (timings, earlier)
    passes = sum(part.get("predicted_per_second", 0.0) * part.get("predicted_ms", 0.0) for part in parts)
    return {
        **timings,
        "predicted_n": n,
        "predicted_ms": ms,
        "predicted_per_second": passes / ms if ms else 0.0,
    }


def seeded(params: SamplingParams, info: EngineInfo | None) -> SamplingParams:
    """With a seed of their own where none is chosen, so that a reply that is cut can be drawn again. Engines
    without token ids draw their own."""
    if params.seed is not None or info is None or not info.capabilities.tokens:
        return params
    return replace(params, seed=secrets.randbits(32))


def reply_details(
    settings: Settings,
    params: SamplingParams,
    info: EngineInfo | None,
    model_sha256: str,
    prompt: Prompt,
    question: str | None,
) -> dict[str, Any]:
    """What a transcript says of how a reply was made, known before its first token.

    `sees_from` stands there where turns were left out: the first message that the model saw, if need be the
    `question` that is answered.
    """
    details: dict[str, Any] = {"parameters": sampling_json(params)}
    if info is not None:
        details |= {"model": info.name, "backend": info.backend}
        if info.path is not None:
            details["model_file"] = str(info.path)
    if model_sha256:
        details["model_sha256"] = model_sha256
    if settings.system:
        details["system"] = settings.system
    if prompt.shortened:
        details["sees_from"] = sees_from(prompt.turns) or question
    return details
