"""Kinds of values: how each is read from the text of a flag, a variable, the config file or the prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chat_app.text.paths import read_path


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` makes a value of a text, or raises ValueError with a phrase. `expected` says what would work.

    choices: all there are, where they can be listed. metavar: what stands for the value in the help.
    """

    read: Callable[[str], Any]
    expected: str
    metavar: str = "TEXT"
    choices: tuple[str, ...] = ()


def read_integer(text: str) -> int:
    """A whole number. Raises ValueError with a phrase."""
    try:
        return int(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def read_number(text: str) -> float:
    """A finite number. Raises ValueError with a phrase."""
    try:
        value = float(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def read_truth(text: str) -> bool:
    """true, yes, on, 1 or their opposites. Raises ValueError with a phrase."""
    known = {"true": True, "yes": True, "on": True, "1": True}
    known |= {"false": False, "no": False, "off": False, "0": False}
    try:
        return known[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def read_texts(text: str) -> tuple[str, ...]:
    """One text; in quotes or brackets it is JSON, so that `["\\n", "END"]` or `[]` can be given."""
    if not text.startswith(("[", '"')):
        return (text,)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return (text,)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise ValueError("takes strings only")
    return tuple(values)


def whole(low: int | None = None, high: int | None = None, *, none: tuple[str, ...] = ()) -> Kind:
    """A whole number from `low` to `high`, or one of the words of `none`, which mean that none is set."""

    def read(text: str) -> int | None:
        if text.strip().lower() in none:
            return None
        value = read_integer(text)
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"{value} is not between {low} and {high}")
        return value

    numbers = f"{low} to {high}" if low is not None else "a whole number"
    return Kind(read, ", ".join([numbers, *none[:1]]), "N")


def choice(*names: str) -> Kind:
    """The kind of a value that is one of `names`, spelt so."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return text

    return Kind(read, ", ".join(names), "{" + ",".join(names) + "}", names)


def read_think(text: str) -> str | int | None:
    """auto (None), on, off, or a number of tokens."""
    word = text.strip().lower()
    if word in ("auto", "on", "off"):
        return None if word == "auto" else word
    if not word.isdecimal():
        raise ValueError(f"{text!r} is neither auto, on, off, nor a number of tokens")
    return int(word)


def read_pair(text: str) -> tuple[str, str] | None:
    """Two texts, apart by white space or as JSON; none for an empty text."""
    texts = read_texts(text) if text.startswith("[") else tuple(text.split())
    if len(texts) not in (0, 2) or not all(texts) or len(set(texts)) < len(texts):
        raise ValueError("takes two texts that differ, one that begins and one that ends")
    return (texts[0], texts[1]) if texts else None


THINK = Kind(read_think, "auto, on, off, or the most tokens of a thought", "{auto,on,off,N}")
PAIR = Kind(read_pair, "two texts, as in `<think> </think>`", "BEGIN END")
TEXT = Kind(str, "a text")
NUMBER = Kind(read_number, "a number", "X")
TRUTH = Kind(read_truth, "true or false", "{true,false}", ("true", "false"))
TEXTS = Kind(read_texts, "a text, or several as JSON")
FILE = Kind(read_path, "a file", "FILE")
