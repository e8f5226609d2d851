"""Typed look-ups in a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.typed import TypedKeys


class Metadata(TypedKeys):
    """Look-ups below a prefix; each failure names the key.

    asked: the keys, prefix and all, that were looked up so far, so that a reader can tell which it left out.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        self.values = values
        self.prefix = prefix
        self.asked: set[str] = set()

    def error(self, key: str, problem: str) -> ModelFormatError:
        """An error for the caller to raise, which names the key in full."""
        return ModelFormatError(self.path, f"metadata key {quoted(self.prefix + key)}", problem)

    def unsupported(self, key: str, problem: str) -> UnsupportedModelError:
        """The same for a file that is sound and cannot be run here."""
        return UnsupportedModelError(self.path, f"metadata key {quoted(self.prefix + key)}", problem)

    def integer_of_some(self, key: str, default: int) -> int:
        """The whole number that all layers have but those that have none, which an array says with 0."""
        if self.is_array(key):
            numbers = {n for n in self.items(key) if n}
            if len(numbers) == 1 and isinstance(number := numbers.pop(), int):
                return number
        return self.integer(key, default)

    def items(self, key: str) -> list[Any]:
        """The array under `key`."""
        self.asked.add(self.prefix + key)
        value = self.values.get(self.prefix + key)
        if not isinstance(value, np.ndarray | list):
            raise self.error(key, "is no array")
        return list(value.tolist() if isinstance(value, np.ndarray) else value)

    def is_array(self, key: str) -> bool:
        """Whether the key is there and has a value for each layer."""
        self.asked.add(self.prefix + key)
        return isinstance(self.values.get(self.prefix + key), np.ndarray | list)

    def states(self, key: str) -> bool:
        """Whether the key is there: metadata knows no null."""
        return self.has(key)

    def has(self, key: str) -> bool:
        """Whether the key is there; it counts as asked for either way."""
        self.asked.add(self.prefix + key)
        return self.prefix + key in self.values

    def _get(self, key: str, default: Any) -> Any:
        self.asked.add(self.prefix + key)
        value = self.values.get(self.prefix + key, default)
        if value is None:
            raise self.error(key, "is missing")
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            # Some files give a number for each layer; one number for all is what this engine runs.
            return value[0].item()
        if isinstance(value, np.ndarray) and value.size:
            raise self.unsupported(
                key, "differs from layer to layer; models whose layers are alike would work"
            )
        return value
