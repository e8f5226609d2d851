"""A value of a file's own settings as the type that is asked for, whatever the format.

refuse: makes the error that names the key, from what is wrong with its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from llama_core.loaders.cursor import quoted

Refuse = Callable[[str], Exception]

# JSON knows no largest number, but floats and sizes do.
MAX_INTEGER = 1 << 63


def as_text(value: Any, refuse: Refuse) -> str:
    """A string."""
    if not isinstance(value, str):
        raise refuse("is no string")
    return value


def as_integer(value: Any, refuse: Refuse) -> int:
    """A whole number of 63 bits at most; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(f"is {quoted(str(value))}, expected a whole number")
    if abs(value) >= MAX_INTEGER:
        raise refuse("has more than 63 bits")
    return value


def as_number(value: Any, refuse: Refuse) -> float:
    """A finite number, whole or not; true and false are none."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise refuse(f"is {quoted(str(value))}, expected a finite number")
    return number


def as_boolean(value: Any, refuse: Refuse) -> bool:
    """True or false, and not 1 or 0."""
    if not isinstance(value, bool):
        raise refuse(f"is {quoted(str(value))}, expected true or false")
    return value
