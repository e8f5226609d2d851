"""Timings for people, as ollama's `--verbose` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_core.events import Timings


def duration(seconds: float) -> str:
    """1m2.5s, 1.5s, 320ms, 45µs."""
    if seconds >= 60:
        minutes, rest = divmod(seconds, 60)
        return f"{int(minutes)}m{rest:.3g}s"
    if seconds >= 1:
        return f"{seconds:.4g}s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.4g}ms"
    return f"{seconds * 1e6:.3g}µs"


def timing_lines(timings: Timings, load_s: float) -> list[str]:
    """Durations of the engine's own clock; the total is loading, prompt and reply together."""
    total_s = load_s + timings.prompt_s + timings.predicted_s
    rows = [
        ("total duration", duration(total_s)),
        ("load duration", duration(load_s)),
        ("prompt eval count", f"{timings.prompt_n} token(s)"),
        ("prompt eval duration", duration(timings.prompt_s)),
        ("prompt eval rate", f"{timings.prompt_per_second:.2f} tokens/s"),
        ("eval count", f"{timings.predicted_n} token(s)"),
        ("eval duration", duration(timings.predicted_s)),
        ("eval rate", f"{timings.predicted_per_second:.2f} tokens/s"),
        ("time to first token", duration(timings.ttft_s)),
    ]
    if timings.cache_n:
        rows.append(("reused from cache", f"{timings.cache_n} token(s)"))
    if timings.draft_n:
        rows.append(("guessed and accepted", f"{timings.draft_accepted_n} of {timings.draft_n} token(s)"))
    return [f"{name + ':':<22}{value}" for name, value in rows]
