"""Highlighted code, a stretch of lines at a time: what stands above the last stretch is never read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from textual.content import Content, Span

STRETCH = 24  # lines: a stretch ends at the best line behind so many at which one may begin to read,
LONGEST_STRETCH = 48  # or here in any case
MAX_LINE = 4000  # characters that are highlighted; behind them a line is plain


@cache
def _styles(ansi: bool) -> dict[Any, str]:
    """Pygments' tokens and Textual's styles for them; but no name is underlined, where `_` would hide, and a
    diff has its colours."""
    from pygments.token import Token
    from textual.highlight import ANSIDarkHighlightTheme, HighlightTheme

    theme = ANSIDarkHighlightTheme if ansi else HighlightTheme
    styles = {token: style.replace(" underline", "") for token, style in theme.STYLES.items()}
    good, bad = ("ansi_green", "ansi_red") if ansi else ("$text-success", "$text-error")
    styles |= {Token.Generic.Inserted: good, Token.Generic.Deleted: bad}
    return styles | {Token.Generic.Subheading: "bold"}


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language or "text", stripnl=False, ensurenl=True)
    except ClassNotFound:
        return get_lexer_by_name("text", stripnl=False, ensurenl=True)


def language_of(info: str) -> str:
    """The word behind a fence that names the language."""
    return info.split(maxsplit=1)[0].strip("{}.").lower() if info.strip() else ""


def highlight(lines: Sequence[str], language: str, *, ansi: bool) -> tuple[list[Content], list[bool]]:
    """The lines with styles; and of each whether one may begin to read at it, since it continues nothing."""
    from pygments.token import Comment, String

    styles = _styles(ansi)
    texts: list[list[str]] = [[]]
    spans: list[list[Span]] = [[]]
    fresh = [True]
    place = 0
    for token, text in _lexer(language).get_tokens("\n".join(line[:MAX_LINE] for line in lines)):
        style = _style_of(styles, token)
        inside = token in String or token in Comment.Multiline
        for number, part in enumerate(text.split("\n")):
            if number:
                texts.append([])
                spans.append([])
                fresh.append(not inside)
                place = 0
            if part:
                texts[-1].append(part)
                if style:
                    spans[-1].append(Span(place, place + len(part), style))
                place += len(part)
    found: list[Content] = []
    for number, line in enumerate(lines):
        if number < len(texts):
            text = "".join(texts[number]) + line[MAX_LINE:]
            found.append(Content(text, spans=spans[number]))
        else:
            found.append(Content(line))
            fresh.append(True)
    return found, fresh[: len(lines)]


def fold_ends(line: str, width: int) -> Iterator[int]:
    """Where the pieces of a line end that are at most `width` cells wide: behind a blank where one stands in
    the second half of a piece, so that words stay whole."""
    start = 0
    while start < len(line):
        piece = Content(line[start : start + width]).fold(width)[0].plain
        end = start + len(piece)
        if end < len(line) and (blank := piece.rfind(" ", len(piece) // 2)) >= 0:
            end = start + blank + 1
        yield end
        start = end


def _style_of(styles: dict[Any, str], token: Any) -> str:
    while token is not None:
        if style := styles.get(token):
            return style
        token = token.parent
    return ""


def stretch_end(lines: Sequence[str], fresh: Sequence[bool]) -> int | None:
    """How many of `lines` the stretch takes; None while that is not known.

    It ends before a fresh line that is not indented where there is one, else before any that is fresh.
    """
    if len(lines) <= LONGEST_STRETCH:
        return None
    ends = [end for end in range(STRETCH, LONGEST_STRETCH) if fresh[end]]
    return next((end for end in ends if lines[end][:1].strip()), ends[0] if ends else LONGEST_STRETCH)
