"""RoPE scaling as files state it, checked before it becomes a `RopeScaling`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, cast

from llama_core.config import RopeScaling
from llama_core.errors import ModelFormatError, UnsupportedModelError

KINDS = ("linear", "llama3", "yarn")
MAX_FACTOR = 1e6


def check_kind(path: Path, where: str, kind: str) -> None:
    """Raise UnsupportedModelError for a kind that is not run here, such as "longrope": to be asked before the
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
) -> RopeScaling:
    """A `RopeScaling` whose every number is finite and positive.

    Raises UnsupportedModelError for other kinds (such as "longrope"), ModelFormatError for bad numbers.
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
    if kind == "llama3" and low_freq_factor >= high_freq_factor:
        raise ModelFormatError(path, where, "the low frequency factor is not below the high one")
    return RopeScaling(
        kind=cast(Literal["linear", "llama3", "yarn"], kind),
        factor=factor,
        original_max_seq_len=original_max_seq_len,
        low_freq_factor=low_freq_factor,
        high_freq_factor=high_freq_factor,
        beta_fast=beta_fast,
        beta_slow=beta_slow,
        attention_factor=attention_factor,
    )
