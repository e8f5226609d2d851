"""Finding whole tokens, such as `<|im_end|>`, inside a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

# No published token is longer; the bound keeps a hostile vocabulary from making the search quadratic.
MAX_LENGTH = 128
# Unicode's White_Space, which `tokenizers` strips; Python's strip() would also take U+001C to U+001F.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


class TokenMatcher:
    """Splits texts at given tokens, leftmost first and of those the longest.

    ids: token texts and ids; empty texts and those over MAX_LENGTH characters are never found.
    lstrip, rstrip: ids that swallow the white space before or after them; single_word: ids that are text
    where a letter, a mark, a digit or an underscore stands beside them. Source: what `tokenizers` does.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        lstrip: Iterable[int] = (),
        rstrip: Iterable[int] = (),
        single_word: Iterable[int] = (),
    ) -> None:
        self._ids = {text: i for text, i in ids.items() if 0 < len(text) <= MAX_LENGTH}
        self._lstrip = frozenset(lstrip)
        self._rstrip = frozenset(rstrip)
        self._single_word = frozenset(single_word)
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        firsts = "".join(map(re.escape, lengths))
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def split(self, text: str) -> list[str | int]:
        """The parts of `text` in order: an id for each token found, the text between, never empty."""
        parts: list[str | int] = []
        done = 0  # up to here `parts` reaches
        for start, stop, token_id in self._found(text):
            if token_id in self._single_word and _inside_a_word(text, start, stop):
                continue
            if start < done:  # within the white space that the one before swallowed
                continue
            between = text[done:start]
            done = stop
            if token_id in self._lstrip:
                between = between.rstrip(WHITE_SPACE)
            if token_id in self._rstrip:
                done = len(text) - len(text[stop:].lstrip(WHITE_SPACE))
            if between:
                parts.append(between)
            parts.append(token_id)
        if done < len(text):
            parts.append(text[done:])
        return parts

    def _found(self, text: str) -> Iterator[tuple[int, int, int]]:
        """(start, stop, id) of each token in the text, none within another."""
        done = 0
        for candidate in self._first.finditer(text) if self._first is not None else ():
            start = candidate.start()
            if start < done:
                continue
            for length in self._lengths[candidate[0]]:
                token_id = self._ids.get(text[start : start + length])
                if token_id is not None:
                    done = start + length
                    yield start, done, token_id
                    break


def _inside_a_word(text: str, start: int, stop: int) -> bool:
    # Imported here: few files have such tokens. It knows marks as parts of words, which `re` does not.
    import regex

    beside = text[max(0, start - 1) : start] + text[stop : stop + 1]
    return regex.search(r"\w", beside) is not None
