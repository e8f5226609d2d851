"""JSON from outside: bounded, without duplicate keys, and typed look-ups that name the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.typed import TypedKeys
from llama_core.ordinary_files import read_ordinary

MAX_CONFIG_BYTES = 16 << 20


def parse_object(path: Path, where: str, text: bytes) -> dict[str, Any]:
    """The JSON object in `text` (UTF-8). Raises ModelFormatError for anything else and for duplicate keys."""

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"key {quoted(key)} occurs twice")
            found[key] = value
        return found

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates)
    except RecursionError as error:
        raise ModelFormatError(path, where, "is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are kinds of it
        raise ModelFormatError(path, where, f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFormatError(path, where, f"is a JSON {type(value).__name__}, expected an object")
    return value


def read_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file of at most `max_bytes`."""
    try:
        text = read_ordinary(path, max_bytes + 1)
    except OSError as error:
        raise ModelFormatError(path, "file", f"cannot be read: {error.strerror}") from error
    if len(text) > max_bytes:
        raise ModelFormatError(path, "file", f"is larger than {max_bytes:,} bytes")
    return parse_object(path, "file", text)


class Fields(TypedKeys):
    """Typed look-ups in a JSON object; a field that is null counts as absent. "a.b" is the field b of the
    object under a.

    asked: the keys that were looked up so far, so that a reader can tell which it left out.
    """

    def __init__(self, path: Path, values: dict[str, Any], where: str = "") -> None:
        self.path = path
        self.values = values
        self.where = where
        self.asked: set[str] = set()

    def error(self, key: str, problem: str) -> ModelFormatError:
        """An error for the caller to raise, which names the field in full."""
        return ModelFormatError(self.path, f"field {self.where}{key}", problem)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._find(key) is not None

    def states(self, key: str) -> bool:
        """Whether the field is there, if only with null."""
        return key in self.values

    def items(self, key: str) -> list[Any]:
        """The list under `key`."""
        value = self._get(key, None)
        if not isinstance(value, list):
            raise self.error(key, "is no list")
        return value

    def is_array(self, key: str) -> bool:
        """Whether the field is there with a list."""
        return isinstance(self._find(key), list)

    def table(self, key: str) -> Fields | None:
        """The object under `key`, or None where there is none."""
        value = self._find(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "is no object")
        return Fields(self.path, value, f"{self.where}{key}.")

    def _find(self, key: str) -> Any:
        first, *inner = key.split(".")
        self.asked.add(first)
        value = self.values.get(first)
        for name in inner:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self._find(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(key, "is missing")
        return value
