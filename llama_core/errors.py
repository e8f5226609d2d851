"""The engine's errors. Each message is a sentence for a person: what was found, where, what would work."""

from __future__ import annotations

import os
from typing import Any


class LlamaCoreError(Exception):
    """The base of every error that `llama_core` raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A child process sends its errors pickled, which would make them anew from their message alone."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class ModelFormatError(LlamaCoreError):
    """A model or tokenizer file that cannot be read.

    The message names the file, the field or byte offset, what was found and the limit it breaks.
    """

    def __init__(self, path: str | os.PathLike[str], where: str, problem: str) -> None:
        self.path = os.fspath(path)
        self.where = where
        self.problem = problem
        super().__init__(f"{self.path}: {where}: {problem}")


class UnsupportedModelError(ModelFormatError):
    """A sound file of a kind this engine does not run; the message says what would work."""


class KernelsUnavailableError(LlamaCoreError):
    """The compiled backend cannot have its kernels here: the system forbids what they need, or the compiler
    fails. NumPy runs."""


class ContextFullError(LlamaCoreError):
    """The prompt (and the room asked for the reply) does not fit into the context."""

    def __init__(self, needed: int, limit: int) -> None:
        self.needed = needed
        self.limit = limit
        super().__init__(f"{needed:,} tokens are needed but the context holds {limit:,}")


class NotEnoughMemoryError(LlamaCoreError):
    """A buffer would not fit into the memory that is available. Sizes are in bytes."""

    def __init__(self, what: str, needed_bytes: int, available_bytes: int, advice: str) -> None:
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        mib = 1024 * 1024
        super().__init__(
            f"{what} needs {needed_bytes / mib:,.0f} MiB but {available_bytes / mib:,.0f} MiB are available; "
            f"{advice}"
        )


class NumericalError(LlamaCoreError):
    """The model produced NaN or infinity."""


class GrammarError(LlamaCoreError):
    """What a reply should be cannot be held: a grammar that is wrong or too much, or nothing can follow."""


class TemplateError(LlamaCoreError):
    """A chat template failed, did something forbidden, or exceeded its limits."""


class ConversationRefusedError(TemplateError):
    """A chat template refused the conversation: its author's words about it."""


class Cancelled(LlamaCoreError):  # noqa: N818 - it is not an error to its caller
    """Raised inside `forward` when the caller's `cancelled()` answers True; the cache keeps its length."""


def _rebuilt(kind: type[LlamaCoreError], args: tuple[Any, ...], values: dict[str, Any]) -> LlamaCoreError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(values)
    return error
