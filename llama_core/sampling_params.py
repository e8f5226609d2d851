"""How a reply is drawn, as a record. Without NumPy, so that the command line can read settings at once."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one reply is drawn and where it ends. Validated on construction: raises ValueError with a sentence.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 switch a filter off, repeat_penalty 1 the penalty,
    which looks at the last `repeat_last_n` ids (0: none, -1: all). `seed` None draws one at random; the
    same seed gives the same tokens. max_tokens None means up to the end of the context. `stop` are strings
    that end the reply and are not part of it. `ignore_eos` goes on past an end token (for measuring).
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        checks = (
            ("temperature", 0.0 <= self.temperature <= 100.0, "0 to 100"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("top_p", 0.0 < self.top_p <= 1.0, "above 0, up to 1 (off)"),
            ("min_p", 0.0 <= self.min_p <= 1.0, "0 (off) to 1"),
            ("repeat_penalty", 0.01 <= self.repeat_penalty <= 100.0, "0.01 to 100; 1 is off"),
            ("repeat_last_n", self.repeat_last_n >= -1, "-1 (all), 0 (off) or more"),
            ("seed", self.seed is None or 0 <= self.seed < 1 << 64, "0 to 2^64 - 1"),
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 0, "0 or more"),
            ("stop", all(self.stop), "strings that are not empty"),
        )
        for name, good, expected in checks:
            value = getattr(self, name)
            if not good or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"{name} is {value!r}, expected {expected}")
