"""The normalizers and pre-tokenizers of a Hugging Face `tokenizer.json`, as functions.

A part that is not listed here raises `Unsupported` with its name. Source: the behaviour of the `tokenizers`
library; its regular expressions are Oniguruma's, in which `^` and `$` stand at every line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import regex

from llama_core.tokenizers.pretokenizers import COMPLETE, GPT2

# Published expressions have a few hundred characters and need microseconds a word; the bounds stop others.
MAX_PATTERN = 4096
MAX_STEPS = 16
MAX_GROWTH = 16
MATCH_S = 1.0

# (pieces, whether the first piece begins the input) -> pieces
Split = Callable[[list[str], bool], list[str]]


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The file's normalizer as one function. kinds: the types of its steps, such as ("NFC",)."""

    kinds: tuple[str, ...]
    steps: tuple[Callable[[str], str], ...]

    def __call__(self, text: str) -> str:
        """The text after all steps, in order."""
        for step in self.steps:
            text = step(text)
        return text


@dataclass(frozen=True, slots=True)
class Step:
    """A pre-tokenizer. pattern: the expression whose matches become pieces, as do the gaps between them, in
    the sense of `pretokenizers.Rule`; None for a step that does more or something else."""

    run: Split
    pattern: str | None = None


class Unsupported(Exception):  # noqa: N818 - becomes UnsupportedModelError where the file is known
    """A part of the file that cannot be expressed here."""


class Malformed(Exception):  # noqa: N818 - becomes ModelFormatError where the file is known
    """A part of the file that breaks the format."""


def field(part: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """`part[name]`, of this type; the default where it is absent or null. Raises Malformed."""
    value = part.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Malformed(f"{name} is a {type(value).__name__}, {kind.__name__} expected")
    return value


def flatten(part: object, children: str, depth: int = 0) -> list[Mapping[str, Any]]:
    """The parts of a (possibly nested) Sequence in order, or the one part, or none for null."""
    if part is None:
        return []
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise Malformed("an object with a type expected")
    if part["type"] != "Sequence":
        return [part]
    if depth > MAX_STEPS:
        raise Malformed("sequences nest too deeply")
    found = [
        step for child in field(part, children, list, []) for step in flatten(child, children, depth + 1)
    ]
    if len(found) > MAX_STEPS:
        raise Unsupported(f"{len(found)} steps in a sequence")
    return found


def _compile(pattern: object) -> regex.Pattern[str]:
    if not isinstance(pattern, dict) or len(pattern) != 1:
        raise Malformed("a pattern is an object with String or Regex")
    ((kind, text),) = pattern.items()
    if kind not in ("String", "Regex") or not isinstance(text, str):
        raise Malformed("a pattern is an object with String or Regex")
    if len(text) > MAX_PATTERN:
        raise Unsupported(f"a pattern of {len(text):,} characters")
    try:
        return regex.compile(regex.escape(text) if kind == "String" else text, regex.MULTILINE)
    except (regex.error, RecursionError, OverflowError, MemoryError, ValueError) as error:
        raise Malformed(f"the regular expression does not compile: {str(error)[:100]}") from error


def normalizer(part: object) -> Normalizer:
    """The file's normalizer as one function."""
    steps: list[Callable[[str], str]] = []
    kinds: list[str] = []
    growth = 1
    for step in flatten(part, "normalizers"):
        kind = step["type"]
        kinds.append(kind)
        if kind in ("NFC", "NFD", "NFKC", "NFKD"):
            form = cast(Literal["NFC", "NFD", "NFKC", "NFKD"], kind)
            steps.append(lambda text, form=form: unicodedata.normalize(form, text))  # type: ignore[misc]
        elif kind == "Prepend":
            prefix = field(step, "prepend", str, "")
            growth += len(prefix)
            steps.append(lambda text, prefix=prefix: prefix + text if text else text)  # type: ignore[misc]
        elif kind == "Replace":
            pattern, content = _compile(step.get("pattern")), field(step, "content", str, "")
            growth *= max(1, len(content))
            steps.append(lambda text, p=pattern, c=content: _replace(p, c, text))  # type: ignore[misc]
        else:
            raise Unsupported(f"the normalizer {kind}")
    if growth > MAX_GROWTH:
        raise Unsupported("normalizers that make the text much longer")
    return Normalizer(tuple(kinds), tuple(steps))


def _replace(pattern: regex.Pattern[str], content: str, text: str) -> str:
    try:
        return str(pattern.sub(lambda _: content, text, timeout=MATCH_S))
    except TimeoutError:
        return text  # a hostile expression: encoding must end, and no published file comes here


def _runs(pattern: regex.Pattern[str], text: str, invert: bool) -> Iterator[tuple[str, bool]]:
    """The text in order as (part, whether it is a match), empty parts left out."""
    done = 0
    try:
        for match in pattern.finditer(text, timeout=MATCH_S):
            start, end = match.span()
            if start > done:
                yield text[done:start], invert
            if end > start:
                yield text[start:end], not invert
            done = end
    except TimeoutError:
        pass  # as in _replace: what is left stays one piece
    if done < len(text):
        yield text[done:], invert


def _split(pattern: regex.Pattern[str], behavior: str, invert: bool) -> Split:
    if behavior == "Isolated" and pattern.pattern in COMPLETE:
        # Nothing lies between the matches, so the quickest way to list them will do.
        return lambda pieces, first: _all_matches(pattern, pieces)

    def one(text: str) -> list[str]:
        runs = list(_runs(pattern, text, invert))
        if behavior == "Removed":
            return [part for part, is_match in runs if not is_match]
        if behavior == "Isolated":
            return [part for part, _ in runs]
        return _merge(runs, behavior)

    return lambda pieces, first: [part for piece in pieces for part in one(piece)]


def _all_matches(pattern: regex.Pattern[str], pieces: list[str]) -> list[str]:
    return [part for piece in pieces for part in pattern.findall(piece)]


def _merge(runs: list[tuple[str, bool]], behavior: str) -> list[str]:
    """Matches joined to the part before or behind them, or to neighbouring matches."""
    backwards = behavior == "MergedWithNext"
    parts: list[str] = []
    previous: bool | None = None
    for part, is_match in reversed(runs) if backwards else runs:
        joins = is_match == previous if behavior == "Contiguous" else is_match and previous is False
        if joins and parts:
            parts[-1] = part + parts[-1] if backwards else parts[-1] + part
        else:
            parts.append(part)
        previous = is_match
    return parts[::-1] if backwards else parts


_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")


def _metaspace(step: Mapping[str, Any]) -> Split:
    mark = field(step, "replacement", str, "▁")
    if len(mark) != 1:
        raise Malformed("the replacement of Metaspace is one character")
    legacy = "always" if field(step, "add_prefix_space", bool, True) else "never"
    scheme = field(step, "prepend_scheme", str, legacy)
    if scheme not in ("always", "first", "never"):
        raise Malformed(f"unknown prepend_scheme {scheme[:20]!r}")
    words = _split(regex.compile(regex.escape(mark)), "MergedWithNext", False)
    split = field(step, "split", bool, True)

    def run(pieces: list[str], first: bool) -> list[str]:
        found = []
        for index, piece in enumerate(pieces):
            text = piece.replace(" ", mark)
            begins = scheme == "always" or (scheme == "first" and first and index == 0)
            found.append(mark + text if begins and not text.startswith(mark) else text)
        return words(found, first) if split else found

    return run


def _split_step(step: Mapping[str, Any]) -> Step:
    behavior = field(step, "behavior", str, "")
    if behavior not in _BEHAVIORS:
        raise Malformed(f"unknown behavior {behavior[:20]!r}")
    pattern, invert = _compile(step.get("pattern")), field(step, "invert", bool, False)
    # Older files remove what lies between the matches, and nothing does.
    isolates = behavior == "Isolated" or (behavior == "Removed" and invert and pattern.pattern in COMPLETE)
    return Step(_split(pattern, behavior, invert), pattern.pattern if isolates else None)


def pre_tokenizer(part: object) -> tuple[list[Step], bool]:
    """The file's pre-tokenizer as steps, and whether its pieces are then written in the byte alphabet."""
    steps: list[Step] = []
    byte_level = False
    for step in flatten(part, "pretokenizers"):
        kind = step["type"]
        if byte_level:
            raise Unsupported("a pre-tokenizer behind ByteLevel")
        if kind == "Split":
            steps.append(_split_step(step))
        elif kind == "Digits":
            digits = r"\p{N}" if field(step, "individual_digits", bool, False) else r"\p{N}+"
            every = regex.compile(rf"{digits}|\P{{N}}+")  # the gaps too: quicker than looking for them
            steps.append(Step(lambda pieces, first, p=every: _all_matches(p, pieces), digits))  # type: ignore[misc]
        elif kind == "Metaspace":
            steps.append(Step(_metaspace(step)))
        elif kind == "ByteLevel":
            byte_level = True
            if field(step, "add_prefix_space", bool, True):
                steps.append(Step(lambda pieces, first: [p if p[0] == " " else " " + p for p in pieces]))
            if field(step, "use_regex", bool, True):
                steps.append(Step(_split(regex.compile(GPT2), "Isolated", False), GPT2))
        else:
            raise Unsupported(f"the pre-tokenizer {kind}")
    return steps, byte_level
