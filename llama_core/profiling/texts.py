"""Texts that measurements read: a paragraph of plain English, and what every Python brings along."""

from __future__ import annotations

from functools import cache

TEXT = (
    "The lighthouse keeper wrote in his log every evening: the wind, the ships that passed, and the number "
    "of steps he had climbed. On the longest night of the year he found a line in the book that he had not "
    "written, in a hand that he did not know, and it gave tomorrow's date. "
)

# Enough for some 8,000 tokens.
TEXT_CHARACTERS = 32_000


@cache
def language_reference() -> str:
    """A text that every Python brings along: the reference of the language, half English, half code."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))[:TEXT_CHARACTERS]
