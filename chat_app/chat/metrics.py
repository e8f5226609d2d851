"""The numbers of the live panel, computed from the engine's events; knows neither terminal nor engine.

Rates come from the engine's own clock (`step_s`, `prefill_s`), which stands still while the screen draws,
so a slow terminal never lowers them. The injected wall clock serves only the load and the prefill's ETA.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from chat_app.chat.panel_snapshot import PanelSnapshot, Phase, percentile
from llama_core.events import (
    UNKNOWN_ID,
    Event,
    Finished,
    LoadProgress,
    LoopFound,
    PrefillProgress,
    TextDelta,
    ThoughtClosed,
    Timings,
    TokenEvent,
)

if TYPE_CHECKING:
    from llama_core.backends.base import MemoryReport
    from llama_core.backends.step_watch import StepTimes

WINDOW_S = 1.0  # "now" is the rate over the last second of the engine's time
BUCKET_S = 0.1  # one point of the sparkline
MAX_POINTS = 240
MAX_STEPS = 4096  # percentiles look at this many of the last passes


class PanelMetrics:
    """Fed by the engine's events; `snapshot()` is what a panel draws."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_prefill_rate: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._phase: Phase = "empty"
        self._load: LoadProgress | None = None
        self._backend = ""
        self._threads: int | None = None
        self._limit = 0
        self._untold = ""
        self._context_n = 0
        self._memory: MemoryReport | None = None
        self._steps: StepTimes | None = None
        self._timings: Timings | None = None
        self._prefill: PrefillProgress | None = None
        self._prefill_started = 0.0
        self._last_prefill_rate = None
        # (seconds, tokens) of each pass of the model: its first token carries the time, and those that follow
        # a right guess come from the same pass
        self._passes: deque[tuple[float, int]] = deque(maxlen=MAX_STEPS)
        self._recent: deque[float] = deque()
        self._points: deque[float] = deque(maxlen=MAX_POINTS)
        self._bucket_n, self._bucket_s = 0, 0.0
        self._decode_n, self._decode_s = 0, 0.0
        self._drafted_n = 0
        self._guessed = False  # whether the last token was a right guess
        self._ttft_s: float | None = None

    # What happens outside a reply.

    def loading(self, progress: LoadProgress | None = None) -> None:
        """A model is being loaded; None before its first progress."""
        self._phase = "loading"
        self._load = progress

    def engine_ready(self, backend: str, threads: int, context_limit: int, untold: str = "") -> None:
        """A model is loaded: its numbers start from nothing."""
        self._forget()
        self._phase, self._backend, self._threads, self._limit = "idle", backend, threads, context_limit
        self._untold = untold

    def new_chat(self) -> None:
        """Another chat has computed nothing yet; the model's own numbers stay."""
        if not self._backend:
            return  # no model is loaded
        memory = self._memory
        self.engine_ready(self._backend, self._threads or 0, self._limit, self._untold)
        self._memory = replace(memory, kv_used_bytes=0) if memory is not None else None

    def engine_gone(self) -> None:
        """There is no model any more: every number is unknown."""
        self._forget()

    def memory(self, report: MemoryReport) -> None:
        """Take the engine's own account of its bytes."""
        self._memory = report
        if self._phase in ("idle", "failed") and report.kv_bytes:
            # Between replies the report is newer than the last event: someone may have looked at tokens.
            self._context_n = round(self._limit * report.kv_used_bytes / report.kv_bytes)

    def steps(self, times: StepTimes) -> None:
        """Take what the operations of the last steps took."""
        self._steps = times

    def cache_reset(self) -> None:
        """The KV cache is empty: occupancy falls to zero."""
        self._context_n = 0
        self._prefill = None

    def started(self) -> None:
        """A prompt went to the engine; nothing has come back yet."""
        self._phase = "prefill"
        self._prefill = self._timings = self._ttft_s = None
        self._prefill_started = self._clock()
        self._passes.clear()
        self._recent.clear()
        self._points.clear()
        self._bucket_n, self._bucket_s = 0, 0.0
        self._decode_n, self._decode_s, self._drafted_n = 0, 0.0, 0
        self._guessed = False

    def failed(self) -> None:
        """The reply ended with an error."""
        self._phase = "failed"

    # The stream of one reply.

    def on_event(self, event: Event) -> None:
        """Count one event of a reply or of loading. Raises TypeError for any other."""
        if isinstance(event, TokenEvent):
            self._on_token(event)
        elif isinstance(event, PrefillProgress):
            self._phase = "prefill"
            self._prefill = event
            self._context_n = event.cached_n + event.done_n
        elif isinstance(event, Finished):
            self._on_finished(event)
        elif isinstance(event, LoadProgress):
            self.loading(event)
        elif not isinstance(event, TextDelta | ThoughtClosed | LoopFound):
            raise TypeError(f"no such event: {event!r}")

    def _on_token(self, token: TokenEvent) -> None:
        self._phase = "decode"
        if token.id != UNKNOWN_ID:  # else how long the prompt is comes with the end
            self._context_n = token.context_n
        self._drafted_n += token.drafted
        self._decode_n += 1
        same_pass, self._guessed = self._guessed, token.drafted
        if token.index == 0:
            prefill_s = self._prefill.prefill_s if self._prefill else 0.0
            self._ttft_s = prefill_s + token.step_s
            return
        step = token.step_s
        self._decode_s += step
        if same_pass and self._passes:
            seconds, tokens = self._passes.pop()
            self._passes.append((seconds + step, tokens + 1))
        else:
            self._passes.append((step, 1))
        self._recent.append(step)
        while len(self._recent) > 1 and sum(self._recent) > WINDOW_S:
            self._recent.popleft()
        self._bucket_n += 1
        self._bucket_s += step
        if self._bucket_s >= BUCKET_S:
            self._points.append(self._bucket_n / self._bucket_s)
            self._bucket_n, self._bucket_s = 0, 0.0

    def _on_finished(self, event: Finished) -> None:
        self._phase = "idle"
        self._timings = event.timings
        if self._untold:
            self._context_n = event.timings.cache_n + event.timings.prompt_n + event.timings.predicted_n
        if event.timings.ttft_s > 0:
            self._ttft_s = event.timings.ttft_s
        if event.timings.prompt_n > 0 and event.timings.prompt_s > 0:
            self._last_prefill_rate = event.timings.prompt_per_second

    # What the panel draws.

    def snapshot(self) -> PanelSnapshot:
        """Every number as it is now. Rates are in tokens/s, times in seconds, None is unknown."""
        prefill_n, total_n, prefill_s, cached_n = self._prefill_numbers()
        prefill_rate = prefill_n / prefill_s if prefill_s > 0 and prefill_n else None
        recent_s = sum(self._recent)
        mean = (self._decode_n - 1) / self._decode_s if self._decode_s > 0 else None
        # percentiles are per token: a pass's time is spread over the tokens it gave
        steps = [seconds / tokens for seconds, tokens in self._passes for _ in range(tokens)]
        rate = prefill_rate or self._last_prefill_rate
        memory, load, timings = self._memory, self._load, self._timings
        return PanelSnapshot(
            phase=self._phase,
            load_stage=load.stage if load else "",
            load_fraction=load.done_bytes / load.total_bytes if load and load.total_bytes else None,
            rate_now=len(self._recent) / recent_s if recent_s > 0 and self._phase == "decode" else None,
            rate_mean=timings.predicted_per_second or mean if timings else mean,
            rates=tuple(self._points),
            ttft_s=self._ttft_s,
            prefill_done_n=prefill_n,
            prefill_total_n=total_n,
            prefill_s=prefill_s,
            prefill_rate=prefill_rate,
            prefill_eta_s=self._eta(prefill_n, total_n, prefill_s),
            decode_n=timings.predicted_n if timings else self._decode_n,
            decode_s=timings.predicted_s if timings else self._decode_s,
            decode_rate=timings.predicted_per_second or mean if timings else mean,
            p50_s=percentile(steps, 0.5),
            p95_s=percentile(steps, 0.95),
            context_n=self._context_n,
            context_limit=self._limit,
            cached_n=cached_n,
            saved_s=cached_n / rate if rate and cached_n else None,
            drafted_n=timings.draft_n if timings else self._drafted_n,
            accepted_n=timings.draft_accepted_n if timings else self._drafted_n,
            kv_bytes=memory.kv_bytes if memory else None,
            kv_used_bytes=self._kv_used(),
            weights_bytes=memory.weights_bytes if memory else None,
            scratch_bytes=memory.scratch_bytes if memory else None,
            draft_bytes=memory.draft_bytes if memory else 0,
            resident_bytes=memory.resident_bytes if memory else None,
            machine_bytes=memory.machine_bytes if memory else 0,
            steps=self._steps,
            backend=self._backend,
            threads=self._threads,
            untold=self._untold,
        )

    def _prefill_numbers(self) -> tuple[int, int, float, int]:
        """(done, of total, seconds, reused) of the prompt under way, or of the last one."""
        if self._timings is not None:
            t = self._timings
            return t.prompt_n, t.prompt_n, t.prompt_s, t.cache_n
        if self._prefill is not None:
            p = self._prefill
            return p.done_n, p.total_n, p.prefill_s, p.cached_n
        return 0, 0, 0.0, 0

    def _eta(self, done_n: int, total_n: int, prefill_s: float) -> float | None:
        """Seconds until the prompt is computed, by its own rate or, before its first chunk, by the last
        prompt's; shrinking between two chunks with the wall clock."""
        if self._phase != "prefill" or self._timings is not None or done_n >= total_n:
            return None
        if done_n and prefill_s > 0:
            return (total_n - done_n) * prefill_s / done_n
        if self._last_prefill_rate:
            waited = self._clock() - self._prefill_started
            return max(0.0, total_n / self._last_prefill_rate - waited)
        return None

    def _kv_used(self) -> int | None:
        """The part of the KV cache in use, following the events between two memory reports."""
        if self._memory is None or not self._limit:
            return None
        return round(self._memory.kv_bytes * self._context_n / self._limit)
