"""A streamed answer of OpenAI's API as the events of a reply: what the server tells, what can be measured.

Rates and the time to the first token are measured here, from when the pieces arrive. The server's own numbers
(usage; llama.cpp's `timings`) come before what was counted. Where it tells no log-probabilities, a piece of
text counts as a token until the usage comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_core.events import (
    UNKNOWN_ID,
    Event,
    Finished,
    FinishReason,
    PrefillProgress,
    Spelled,
    TextDelta,
    Timings,
    TokenEvent,
)


class Answer:
    """Takes the pieces of one answer. `started_s` and each `at_s` are seconds of one clock."""

    def __init__(self, started_s: float) -> None:
        self._last_s = self._started_s = started_s
        self._first_s: float | None = None
        self._prefill_s = 0.0
        self._n = 0
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self.reason: str | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any of it came."""
        return self._n > 0

    def take(self, piece: Mapping[str, Any], at_s: float) -> Iterator[Event]:
        """The events of a piece."""
        for name, kept in (("usage", "_usage"), ("timings", "_timings")):
            if isinstance(piece.get(name), Mapping):
                setattr(self, kept, piece[name])
        if isinstance(progress := piece.get("prompt_progress"), Mapping):
            known = _progress(progress)
            self._prefill_s = known.prefill_s
            yield known
        choices = piece.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
            yield from self._take_choice(choices[0], at_s)

    def _take_choice(self, choice: Mapping[str, Any], at_s: float) -> Iterator[Event]:
        texts = _texts(choice)
        tokens = _told(choice.get("logprobs"))
        if texts and not tokens:
            tokens = [(math.nan, None)]
        thought = bool(texts) and texts[0].thought
        waited_s = at_s - self._last_s
        if self._first_s is None:  # the prompt's time has been told
            waited_s = max(0.0, waited_s - self._prefill_s)
        step_s = waited_s / max(1, len(tokens))
        for logprob, spelled in tokens:
            yield TokenEvent(
                self._n, UNKNOWN_ID, logprob, step_s, self._n + 1, thought=thought, spelled=spelled
            )
            self._n += 1
        if tokens:
            self._first_s = at_s if self._first_s is None else self._first_s
            self._last_s = at_s
        yield from texts
        if isinstance(choice.get("finish_reason"), str):
            self.reason = choice["finish_reason"]

    def finished(self, reason: FinishReason | None, seed: int) -> Finished:
        """The last event; `reason` where the reply did not end by itself."""
        if reason is None:
            reason = "length" if self.reason == "length" else "stop"
        return Finished(reason, self._all_timings(), seed, ())

    def _all_timings(self) -> Timings:
        first_s = self._first_s
        prompt_n = _count(self._usage, "prompt_tokens")
        details = self._usage.get("prompt_tokens_details")
        cached_n = _count(details, "cached_tokens") if isinstance(details, Mapping) else 0
        reply_n = _count(self._usage, "completion_tokens") or self._n
        told = self._timings
        if told:
            cached_n, prompt_n = _count(told, "cache_n"), _count(told, "prompt_n") + _count(told, "cache_n")
        return Timings(
            cache_n=cached_n,
            prompt_n=max(0, prompt_n - cached_n),
            prompt_s=_seconds(told, "prompt_ms"),
            predicted_n=reply_n,
            predicted_s=self._last_s - first_s if first_s is not None else 0.0,
            ttft_s=first_s - self._started_s if first_s is not None else 0.0,
            draft_n=_count(told, "draft_n"),
            draft_accepted_n=_count(told, "draft_n_accepted"),
        )


def _texts(choice: Mapping[str, Any]) -> list[TextDelta]:
    """The text of a chat's piece or a completion's, thoughts apart from words."""
    delta = choice.get("delta")
    if not isinstance(delta, Mapping):
        text = _string(choice.get("text"))
        return [TextDelta(text)] if text else []
    thought = _string(delta.get("reasoning_content")) or _string(delta.get("reasoning"))
    words = _string(delta.get("content")) or _string(delta.get("refusal"))
    return [TextDelta(text, is_thought) for text, is_thought in ((thought, True), (words, False)) if text]


def _progress(told: Mapping[str, Any]) -> PrefillProgress:
    """llama.cpp's `prompt_progress`: its counts include what was cached."""
    cached_n = _count(told, "cache")
    done_n, total_n = _count(told, "processed") - cached_n, _count(told, "total") - cached_n
    return PrefillProgress(cached_n, max(0, done_n), max(0, total_n), _seconds(told, "time_ms"))


def _told(logprobs: Any) -> list[tuple[float, Spelled | None]]:
    """Each token's log-probability and text, in the form of a chat or of a completion."""
    if not isinstance(logprobs, Mapping):
        return []
    if isinstance(content := logprobs.get("content"), list):
        return [_chat_token(one) for one in content if isinstance(one, Mapping)]
    texts, values, tops = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(texts, list) or not isinstance(values, list):
        return []
    tops = tops if isinstance(tops, list) else [None] * len(texts)
    return [
        (_logprob(value), Spelled(str(text), str(text).encode(), _ranked(_pairs(top))))
        for text, value, top in zip(texts, values, tops, strict=False)
    ]


def _chat_token(entry: Mapping[str, Any]) -> tuple[float, Spelled]:
    others = entry.get("top_logprobs")
    rows = [one for one in others if isinstance(one, Mapping)] if isinstance(others, list) else []
    top = [(*_spelling(one), _logprob(one.get("logprob"))) for one in rows]
    return _logprob(entry.get("logprob")), Spelled(*_spelling(entry), _ranked(top))


def _spelling(entry: Mapping[str, Any]) -> tuple[str, bytes]:
    text, data = str(entry.get("token", "")), entry.get("bytes")
    if isinstance(data, list) and all(type(one) is int and 0 <= one < 256 for one in data):
        return text, bytes(data)
    return text, text.encode("utf-8", "replace")


def _pairs(top: Any) -> list[tuple[str, bytes, float]]:
    if not isinstance(top, Mapping):
        return []
    return [(str(text), str(text).encode("utf-8", "replace"), _logprob(value)) for text, value in top.items()]


def _ranked(top: Sequence[tuple[str, bytes, float]]) -> tuple[tuple[str, bytes, float], ...]:
    known = [one for one in top if not math.isnan(one[2])]
    return tuple(sorted(known, key=lambda one: -one[2]))


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _logprob(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _count(source: Mapping[str, Any], name: str) -> int:
    value = source.get(name)
    return value if type(value) is int and value > 0 else 0


def _seconds(source: Mapping[str, Any], name: str) -> float:
    value = source.get(name)
    known = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) / 1e3 if known and value is not None else 0.0
