"""What the live panel shows, at one moment: numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llama_core.backends.step_watch import StepTimes

WORDS_PER_TOKEN = 0.75  # of English prose, with the vocabularies of today
Phase = Literal["empty", "loading", "idle", "prefill", "decode", "failed"]


@dataclass(frozen=True, slots=True)
class PanelSnapshot:
    """Everything the panel shows, at one moment. Seconds, bytes, tokens; rates in tokens per second.

    A None means "not known yet", which the panel shows as a dash and never as zero. machine_bytes: what the
    machine, or the container, has in all; 0 is unknown. steps: of the last half second, where watched.
    context_n: positions of the context that the KV cache holds, whatever was read last; chat_n: those that
    the chat takes. untold: what an engine elsewhere never tells, in words; "" for the one on this machine.
    """

    phase: Phase = "empty"
    load_stage: str = ""
    load_fraction: float | None = None
    rate_now: float | None = None
    rate_mean: float | None = None
    rates: tuple[float, ...] = ()
    ttft_s: float | None = None
    prefill_done_n: int = 0
    prefill_total_n: int = 0
    prefill_s: float = 0.0
    prefill_rate: float | None = None
    prefill_eta_s: float | None = None
    decode_n: int = 0
    decode_s: float = 0.0
    decode_rate: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    context_n: int = 0
    chat_n: int = 0
    context_limit: int = 0
    cached_n: int = 0
    saved_s: float | None = None
    drafted_n: int = 0
    accepted_n: int = 0
    kv_bytes: int | None = None
    kv_used_bytes: int | None = None
    weights_bytes: int | None = None
    scratch_bytes: int | None = None
    draft_bytes: int = 0
    resident_bytes: int | None = None
    machine_bytes: int = 0
    steps: StepTimes | None = None
    backend: str = ""
    threads: int | None = None
    untold: str = ""

    @property
    def occupancy(self) -> float:
        """Part of the context that the KV cache holds, 0 to 1."""
        return self.context_n / self.context_limit if self.context_limit else 0.0

    @property
    def chat_share(self) -> float:
        """Part of the context that the chat takes, 0 to 1."""
        return self.chat_n / self.context_limit if self.context_limit else 0.0

    @property
    def words_left(self) -> int:
        """How many English words the chat may still grow by, about: two digits count."""
        words = int(max(0, self.context_limit - self.chat_n) * WORDS_PER_TOKEN)
        unit: int = 10 ** max(0, len(str(words)) - 2)
        return words // unit * unit


def percentile(values: list[float], q: float) -> float | None:
    """The q-quantile (0 to 1) by linear interpolation, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * q
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
