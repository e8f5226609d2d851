"""How a reply is drawn, as a record. Without NumPy, so that the command line can read settings at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from llama_core.choices import Thinking
from llama_core.constraints.grammar import Grammar

# What each field may be: in words, and as a check.
RANGES: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "temperature": ("0 to 100", lambda value: 0.0 <= value <= 100.0),
        "top_k": ("0 (off) or more", lambda value: value >= 0),
        "top_p": ("0 (the likeliest token) to 1 (off)", lambda value: 0.0 <= value <= 1.0),
        "min_p": ("0 (off) to 1", lambda value: 0.0 <= value <= 1.0),
        "typical_p": ("0 (the most typical token) to 1 (off)", lambda value: 0.0 <= value <= 1.0),
        "repeat_penalty": ("0.01 to 100; 1 is off", lambda value: 0.01 <= value <= 100.0),
        "repeat_last_n": ("-1 (all), 0 (off) or more", lambda value: value >= -1),
        "presence_penalty": ("-2 to 2; 0 is off", lambda value: -2.0 <= value <= 2.0),
        "frequency_penalty": ("-2 to 2; 0 is off", lambda value: -2.0 <= value <= 2.0),
        "dry_multiplier": ("0 (off) to 100", lambda value: 0.0 <= value <= 100.0),
        "dry_base": ("1 to 100", lambda value: 1.0 <= value <= 100.0),
        "dry_allowed_length": ("1 or more", lambda value: value >= 1),
        "dry_penalty_last_n": ("-1 (all), 0 (off) or more", lambda value: value >= -1),
        "dry_sequence_breakers": ("strings that are not empty", all),
        "logit_bias": (
            "ids with numbers from -100 to 100",
            lambda pairs: all(id >= 0 and -100.0 <= bias <= 100.0 for id, bias in pairs),
        ),
        "seed": ("-2^63 to 2^64 - 1", lambda value: value is None or -(1 << 63) <= value < 1 << 64),
        "max_tokens": ("0 or more", lambda value: value is None or value >= 0),
        "loop_rounds": ("0 (off), or 2 or more", lambda value: value == 0 or value >= 2),
        "thinking": (
            "auto, on, off, or the most tokens of a thought",
            lambda value: value in (None, "on", "off") or (isinstance(value, int) and value >= 0),
        ),
        "stop": ("strings that are not empty", all),
    }
)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one reply is drawn and where it ends. Validated on construction: raises ValueError with a sentence.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0 and typical_p 1 switch a filter off; top_p 0 leaves the
    likeliest token. repeat_penalty 1 switches off the penalty that looks at the last `repeat_last_n` ids (0:
    none, -1: all), presence_penalty 0 and frequency_penalty 0 OpenAI's, which look at the reply. `dry_*` are
    DRY's numbers under llama.cpp's names (see `dry.py`); multiplier 0 is off. logit_bias: pairs of an id and
    what is added to its logit. grammar: what the reply must be. `seed` None draws one at random; the same
    seed gives the same tokens. max_tokens None means up to the end of the context. `stop` are strings that
    end the reply and are not part of it. thinking: whether the model thinks before it answers, or after how
    many tokens its thought is ended. loop_rounds: a reply that repeats a span so often ends. `ignore_eos`
    goes on past an end token (for measuring).
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: Grammar | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: Thinking = None
    loop_rounds: int = 0
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        for name, (expected, is_good) in RANGES.items():
            value = getattr(self, name)
            if not is_good(value) or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"{name} is {value!r}, expected {expected}")
