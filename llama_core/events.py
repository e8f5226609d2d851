"""The engine's only output: a stream of these records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# stop: an end token or a stop string; length: max_tokens reached; context: the context is full;
# loop: it repeated itself; cancelled: the caller asked. A failure is an exception, never a reason.
FinishReason = Literal["stop", "length", "context", "cancelled", "loop"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Loading a model: `done_bytes` of `total_bytes` in this stage ("weights", "kernels", ...). note: a
    sentence for the user, where there is something to say of it."""

    stage: str
    done_bytes: int
    total_bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """After each chunk of the prompt. `cached_n` tokens came from the KV cache; `done_n` of `total_n` others
    are computed so far, in `prefill_s` seconds. The first is sent before any work (done_n = 0)."""

    cached_n: int
    done_n: int
    total_n: int
    prefill_s: float


# The id of a token whose engine keeps its ids to itself.
UNKNOWN_ID = -1


@dataclass(frozen=True, slots=True)
class Spelled:
    """A token as an engine elsewhere tells it: its text, its bytes, and as `top` the likeliest ones at its
    place as (text, bytes, logprob), best first."""

    text: str
    raw: bytes
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token. `index` counts from 0; `logprob` is natural, under the model's own distribution
    (temperature 1, no filter); `step_s` is the engine's time since the token before (for the first: since
    the prompt was computed); `context_n` positions of the context are in use; `drafted` marks a token that
    prompt lookup guessed; `top` holds the (id, logprob) alternatives when they were asked for; `thought`
    marks tokens of a reasoning, and all that stands between it and the answer. An engine elsewhere tells no
    ids (UNKNOWN_ID), perhaps no logprob (NaN), and a token's text as `spelled`."""

    index: int
    id: int
    logprob: float
    step_s: float
    context_n: int
    drafted: bool = False
    top: tuple[tuple[int, float], ...] = ()
    thought: bool = False
    spelled: Spelled | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text ready to be shown. It follows the TokenEvent that completed it; a token may complete none.
    thought: it is no part of the answer, but of the reasoning before it."""

    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True)
class ThoughtClosed:
    """The thought was ended from outside, by its budget or the user. The tokens that end it follow, from the
    reply's token `index` on; `thought_n` tokens of it were written."""

    index: int
    thought_n: int


@dataclass(frozen=True, slots=True)
class LoopFound:
    """The reply repeats itself from its token `begin` on: `span_n` tokens, `rounds` times. It ends here."""

    begin: int
    span_n: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Timings:
    """What a reply cost, in seconds of the engine's own clock, which stands still while the consumer runs.

    `prompt_n` excludes the `cache_n` tokens reused. `predicted_s` runs from the first token to the last, so
    the decode rate divides by n - 1 (measuring rule: house style).
    """

    cache_n: int = 0
    prompt_n: int = 0
    prompt_s: float = 0.0
    predicted_n: int = 0
    predicted_s: float = 0.0
    ttft_s: float = 0.0
    draft_n: int = 0
    draft_accepted_n: int = 0

    @property
    def prompt_per_second(self) -> float:
        """Prompt tokens computed a second; 0 where none was."""
        return self.prompt_n / self.prompt_s if self.prompt_s > 0 else 0.0

    @property
    def predicted_per_second(self) -> float:
        """Tokens a second; the first token counts to the prompt, so it is left out."""
        return (self.predicted_n - 1) / self.predicted_s if self.predicted_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The names and units of llama.cpp's server (`prompt_ms`, ...), plus `ttft_ms`."""
        return {
            "cache_n": self.cache_n,
            "prompt_n": self.prompt_n,
            "prompt_ms": self.prompt_s * 1e3,
            "prompt_per_second": self.prompt_per_second,
            "predicted_n": self.predicted_n,
            "predicted_ms": self.predicted_s * 1e3,
            "predicted_per_second": self.predicted_per_second,
            "ttft_ms": self.ttft_s * 1e3,
            "draft_n": self.draft_n,
            "draft_n_accepted": self.draft_accepted_n,
        }


@dataclass(frozen=True, slots=True)
class Finished:
    """The last record of a reply. `seed` is the one used, so that the reply can be drawn again; `ids` are
    the reply's tokens, without the end token."""

    reason: FinishReason
    timings: Timings
    seed: int
    ids: tuple[int, ...]


Event = LoadProgress | PrefillProgress | TokenEvent | TextDelta | ThoughtClosed | LoopFound | Finished
