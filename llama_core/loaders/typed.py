"""A file's own settings as values of the type that is asked for, whatever the format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.loaders.cursor import quoted

# JSON knows no largest number, but floats and sizes do.
MAX_INTEGER = 1 << 63


class TypedKeys(ABC):
    """Look-ups by key; each raises ModelFormatError, which names the key, for a value of another type, and
    where it is missing and there is no default."""

    @abstractmethod
    def error(self, key: str, problem: str) -> ModelFormatError:
        """An error for the caller to raise, which names the key in full."""

    @abstractmethod
    def _get(self, key: str, default: Any) -> Any:
        """The value, or `default`, which is not None then. Raises as the class says."""

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "is no string")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of 63 bits at most; true and false are none."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"is {quoted(str(value))}, expected a whole number")
        if abs(value) >= MAX_INTEGER:
            raise self.error(key, "has more than 63 bits")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number, whole or not; true and false are none."""
        value, number = self._get(key, default), math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            with suppress(OverflowError):
                number = float(value)
        if not math.isfinite(number):
            raise self.error(key, f"is {quoted(str(value))}, expected a finite number")
        return number

    def boolean(self, key: str, default: bool) -> bool:
        """True or false, and not 1 or 0."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"is {quoted(str(value))}, expected true or false")
        return value
