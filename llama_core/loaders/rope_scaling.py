"""RoPE scaling as files state it, checked before it becomes a `RopeScaling`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, cast

from llama_core.config import RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError

KINDS = ("linear", "llama3", "yarn", "longrope")
MAX_FACTOR = 1e6


def check_kind(path: Path, where: str, kind: str) -> None:
    """Raise UnsupportedModelError for a kind that is not run here, such as "dynamic": to be asked before the
    numbers, which differ from kind to kind."""
    if kind not in KINDS:
        raise UnsupportedModelError(
            path, where, f"asks for {kind[:80]!a} scaling; {', '.join(KINDS)} would work"
        )


def checked_scaling(
    path: Path,
    where: str,
    kind: str,
    *,
    factor: float,
    original_max_seq_len: int,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 4.0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    attention_factor: float | None = None,
    truncate: bool = True,
    short_factors: tuple[float, ...] = (),
    long_factors: tuple[float, ...] = (),
) -> RopeScaling:
    """A `RopeScaling` whose every number is finite and positive.

    Raises UnsupportedModelError for other kinds (such as "dynamic"), ModelFormatError for bad numbers.
    """
    check_kind(path, where, kind)
    numbers = {
        "factor": factor,
        "original length": float(original_max_seq_len),
        "low frequency factor": low_freq_factor,
        "high frequency factor": high_freq_factor,
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "attention factor": 1.0 if attention_factor is None else attention_factor,
    }
    for name, value in numbers.items():
        limit = float(1 << 31) if name == "original length" else MAX_FACTOR
        if not (math.isfinite(value) and 0 < value <= limit):
            raise ModelFormatError(
                path, where, f"{name} is {value}, expected a positive number up to {limit:,.0f}"
            )
    for factors in (short_factors, long_factors):
        if not all(math.isfinite(one) and 0 < one <= MAX_FACTOR for one in factors):
            raise ModelFormatError(path, where, f"has a factor that is not positive: {factors}")
    if kind == "llama3" and low_freq_factor >= high_freq_factor:
        raise ModelFormatError(path, where, "the low frequency factor is not below the high one")
    return RopeScaling(
        kind=cast(Literal["linear", "llama3", "yarn", "longrope"], kind),
        factor=factor,
        original_max_seq_len=original_max_seq_len,
        low_freq_factor=low_freq_factor,
        high_freq_factor=high_freq_factor,
        beta_fast=beta_fast,
        beta_slow=beta_slow,
        attention_factor=attention_factor,
        truncate=truncate,
        short_factors=short_factors,
        long_factors=long_factors,
    )


def yarn_temperature(factor: float, scale: float = 1.0) -> float:
    """YaRN's factor on cos and sin for a stretch by `factor`: 0.1 * scale * ln(factor) + 1."""
    return 0.1 * scale * math.log(max(factor, 1.0)) + 1.0


def longrope_temperature(stretch: float, trained: int) -> float:
    """LongRoPE's factor on cos and sin for a context of `stretch` times the trained one."""
    return math.sqrt(1.0 + math.log(stretch) / math.log(trained)) if stretch > 1.0 and trained > 1 else 1.0
