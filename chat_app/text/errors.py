"""Errors for people: sentences, and the nearest thing that would have worked."""

from __future__ import annotations

import errno
from collections.abc import Iterable


class SentenceError(Exception):
    """Raised on purpose: its message is a sentence for a person."""


class UsageError(SentenceError):
    """The command line asks for something that cannot be; exit code 2."""


def describe_error(error: BaseException) -> str:
    """What went wrong. Errors raised on purpose, here or in the engine, are sentences already."""
    from llama_core.errors import LlamaCoreError

    # A KeyError or IndexError is a LookupError whose text is only the key: no sentence.
    ours = isinstance(error, SentenceError | LlamaCoreError | ValueError) or type(error) is LookupError
    if ours and str(error):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There was not enough memory. {error}".strip()
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return "The system lets this process start no more threads: too many run, or memory is short."
    if isinstance(error, OSError):
        if error.errno == errno.ENOMEM:  # of a process or a mapping, where it names no file of the user's
            return f"There was not enough memory. {error.filename or ''}".strip()
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" with the closest of `known`, or an empty string."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""
