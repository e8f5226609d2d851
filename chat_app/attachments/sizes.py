"""What attachments take of the context, told before they are sent, and how they are made to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chat_app.attachments.attachment import Attachment
from chat_app.text.formatting import percent
from chat_app.text.sanitize import clean_line

MARK_TOKENS = 8  # what it costs to say of a file that it is a part
SPARE = 1.05  # texts are not equally dense everywhere
LEAST_SUMMARY = 48  # a summary of fewer says nothing
BYTES_A_TOKEN = 4  # of English, roughly, where no tokenizer is at hand


@dataclass(frozen=True, slots=True)
class Size:
    """An attachment's tokens; `about` where they are a guess. left: what of the context is free now, 0 where
    its size is not known."""

    name: str
    tokens: int
    left: int = 0
    about: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is room for it, as far as that is known."""
        return not self.left or self.tokens < self.left

    @property
    def line(self) -> str:
        """`notes.txt · 1,204 tokens, 31 % of the 3,880 left`."""
        n = f"{'about ' if self.about else ''}{self.tokens:,} token{'' if self.tokens == 1 else 's'}"
        if not self.left:
            share = ""
        elif self.fits:
            share = f", {percent(self.tokens / self.left)} of the {self.left:,} left"
        else:
            share = f": more than the {self.left:,} left"
        return f"{clean_line(self.name, 60)} · {n}{share}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Those of several attachments, in order."""

    rows: tuple[Size, ...]

    @property
    def total(self) -> Size:
        """All of them as one."""
        left, about = (self.rows[0].left, any(one.about for one in self.rows)) if self.rows else (0, False)
        return Size(f"{len(self.rows)} files", sum(one.tokens for one in self.rows), left, about)


def guessed_tokens(one: Attachment) -> int:
    """A guess at an attachment's tokens."""
    return -(-len(one.text.encode("utf-8", "replace")) // BYTES_A_TOKEN)


def sizes_of(attachments: Iterable[Attachment], counts: Iterable[int] | None, left: int) -> Sizes:
    """The sizes of attachments, from their tokens (`counts`; None: guessed)."""
    files = list(attachments)
    known = [guessed_tokens(one) for one in files] if counts is None else counts
    pairs = zip(files, known, strict=True)
    return Sizes(tuple(Size(one.name, n, left, counts is None) for one, n in pairs))


def beginnings(attachments: Sequence[Attachment], tokens: int, over_n: int) -> tuple[Attachment, ...] | None:
    """The attachments, `tokens` in all, shortened by `over_n` tokens or a little more: each keeps the same
    share of its text, to the end of a line. None where that would leave nothing."""
    gone_n = over_n * SPARE + MARK_TOKENS * len(attachments)
    if gone_n >= tokens:
        return None
    return tuple(_shorter(one, 1 - gone_n / tokens) for one in attachments)


def _shorter(one: Attachment, share: float) -> Attachment:
    if one.summary:
        return replace(one, summary=_head(one.summary, share))
    return replace(one, text=_head(one.text, share), cut=True)


@dataclass(frozen=True, slots=True)
class ToSummarise:
    """An attachment, the place where it stands among the others, and the tokens that its summary may take."""

    at: int
    file: Attachment
    room_n: int


def to_summarise(attachments: Sequence[Attachment], sizes: Sizes, over_n: int) -> list[ToSummarise]:
    """The fewest attachments, the largest first, whose summaries make all of them shorter by `over_n` tokens.
    What room is left they share by their sizes. Nothing where that would leave too little."""
    tokens = [one.tokens for one in sizes.rows]
    order = sorted(range(len(tokens)), key=lambda at: -tokens[at])
    for n in range(1, len(order) + 1):
        chosen = sorted(order[:n])
        total = sum(tokens[at] for at in chosen)
        room = int((total - over_n) / SPARE) - MARK_TOKENS * n
        if room >= LEAST_SUMMARY * n:
            rest = room - LEAST_SUMMARY * n
            return [
                ToSummarise(at, attachments[at], LEAST_SUMMARY + rest * tokens[at] // total) for at in chosen
            ]
    return []


def _head(text: str, share: float) -> str:
    start = text[: int(len(text) * share)]
    return start.rpartition("\n")[0] or start
