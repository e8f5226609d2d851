"""Keeping the words of a conversation apart from the words of its template.

Rendering mixes both into one text, and only the template's own `<|im_end|>` may become a control token. So
every place where a message could spell one (alone, or together with the text around it) is
broken by a mark, a character that occurs nowhere else, before rendering; special tokens are then looked
for in the rendered text and the mark is taken out of what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# Roles that programs choose, not people: templates compare them and build markers from them.
KNOWN_ROLES = frozenset({"system", "user", "assistant", "tool", "function", "developer", "ipython"})


def unused_character(texts: Iterable[str]) -> str:
    """A character that occurs in none of the texts: a Unicode noncharacter where one is free."""
    seen = frozenset().union(*map(frozenset, texts))
    return next(char for char in _candidates() if char not in seen)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in JSON-like data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from texts_of(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_of(one)


def _candidates() -> Iterator[str]:
    yield from map(chr, range(0xFDD0, 0xFDF0))
    yield from map(chr, range(0x10FFFF, 0xFFFF, -1))


class Guard:
    """Marks messages so that they cannot spell any of `tokens`, the texts of special tokens."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = sorted(filter(None, tokens))
        self._prefixes = {text[:n] for text in self._tokens for n in range(1, len(text))}
        self._suffixes = {text[n:] for text in self._tokens for n in range(1, len(text))}
        self._longest = max(map(len, self._tokens), default=0)
        # Tokens never contain a line feed between them, so a search here finds the inner part of any token.
        self._all = "\n".join(self._tokens)

    def mark_messages(self, messages: Sequence[Mapping[str, Any]], mark: str) -> list[dict[str, Any]]:
        """Copies of the messages with every text marked, but for the roles that programs choose."""
        return [
            {key: self._marked(key, value, mark) for key, value in message.items()} for message in messages
        ]

    def _marked(self, key: str, value: Any, mark: str) -> Any:
        if key == "role" and value in KNOWN_ROLES:
            return value
        return self.mark_text(value, mark) if isinstance(value, str) else self.mark_data(value, mark)

    def mark_data(self, value: Any, mark: str) -> Any:
        """A copy of JSON-like data (calls, tools) with `mark` inside each special token that it spells.

        Templates write such data as JSON, so that no text of it stands beside other text, and compare words
        of it with their own: nothing else is touched.
        """
        if isinstance(value, str):
            return self._broken(value, mark)
        if isinstance(value, Mapping):
            return {self._broken(str(k), mark): self.mark_data(v, mark) for k, v in value.items()}
        return [self.mark_data(one, mark) for one in value] if isinstance(value, list | tuple) else value

    def _broken(self, text: str, mark: str) -> str:
        """`text` with `mark` inside each special token."""
        for token in self._tokens:
            if token in text:
                # Once more for occurrences that overlap, as in "<a<a>" read with the token "a<a".
                text = text.replace(token, token[0] + mark + token[1:])
                text = text.replace(token, token[0] + mark + token[1:])
        return text

    def mark_text(self, text: str, mark: str) -> str:
        """`text` with `mark` inside each special token, and at an end that could begin or finish one.

        The ends are those of the text without its outer white space, which templates may strip.
        """
        text = self._broken(text, mark)
        core = text.strip()
        if not core:
            return text
        begin = text.index(core)
        lead, tail = text[:begin], text[begin + len(core) :]
        inner = core in self._all
        if inner or any(core[:n] in self._suffixes for n in range(1, min(self._longest, len(core) + 1))):
            core = mark + core
        if inner or any(core[-n:] in self._prefixes for n in range(1, min(self._longest, len(core) + 1))):
            core += mark
        return lead + core + tail
