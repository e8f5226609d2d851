"""A paragraph's own marks (emphasis, code, links), read in pieces so that a long one may grow cheaply."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from textual.content import Content, Span
from textual.style import Style

from chat_app.text.formulas import to_unicode
from chat_app.text.sanitize import clean

PIECE = 300  # characters: a piece ends at the first place behind so many where no mark is open,
LONGEST_PIECE = 2000  # or here in any case: a mark left open would hold back all that follows it
LINK = "link"  # the key under which a style carries an address

_MARKS = re.compile(r"\\.|`+|\*+|_+|~~|!?\[|\]\(|\]|\)|\s+", re.DOTALL)
_STYLES = {"em": ".em", "strong": ".strong", "s": ".s"}
_FORMULA = frozenset("()[]")
# As in pandoc: within single dollars no blank at the ends, and nothing behind: `$5-$10`, `$a/$b`.
_FORMULAS = re.compile(
    r"\\\((?P<inline>.+?)\\\)|\\\[(?P<display>.+?)\\\]|\$\$(?P<dollars>[^$]+)\$\$"
    r"|\$(?P<dollar>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\w)",
    re.DOTALL,
)


@cache
def _parser() -> MarkdownIt:
    """GitHub's flavour without HTML; plain addresses are not turned into links."""
    parser = MarkdownIt("gfm-like", {"linkify": False, "html": False, "breaks": True})
    parser.core.ruler.before("text_join", "formulas", _keep_formulas)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.core.ruler.push("inert", _make_inert)  # the last rule: entities are decoded by then
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    """A formula in Unicode, or as it was written where that would not read well: no sign in it is a mark."""
    found = _FORMULAS.match(state.src, state.pos, state.posMax)
    if found is None or not found[found.lastgroup or 0].strip():
        return False
    if not silent:
        shown = to_unicode(found[found.lastgroup or 0])
        state.push("formula", "", 0).content = found[0] if shown is None else shown
    state.pos = found.end()
    return True


def _keep_formulas(state: StateCore) -> None:
    """`\\(` and `\\[` begin a formula: they keep the backslash that Markdown would take for its own."""
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "text_special" and child.content in _FORMULA and child.info == "escape":
                child.content = child.markup


def _make_inert(state: StateCore) -> None:
    """An entity (`&#x202e;`) passes `clean` as text and becomes the character only in the parser."""
    _clean_tokens(state.tokens)


def _clean_tokens(tokens: Iterable[Token]) -> None:
    for token in tokens:
        token.content = clean(token.content)
        for name, value in token.attrs.items():
            if isinstance(value, str):
                token.attrs[name] = clean(value)
        _clean_tokens(token.children or ())


def piece_end(text: str, start: int) -> int | None:
    """Where the piece that begins at `start` ends: behind a blank with no mark open. None: not yet.

    It looks at no more than LONGEST_PIECE characters, and what comes later never moves an end once found.
    """
    if len(text) - start <= PIECE:
        return None
    code = ""
    marks = {"*": 0, "_": 0}
    brackets = struck = 0
    in_address = in_formula = False
    limit = start + LONGEST_PIECE
    for found in _MARKS.finditer(text, start, min(limit, len(text))):
        mark = found[0]
        kind = mark[0]
        if code:
            code = "" if mark == code else code
        elif kind == "`":
            code = mark
        elif kind in marks:
            _count(marks, mark, text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1])
        elif mark == "~~":
            struck ^= 1
        elif mark in ("\\(", "\\["):
            in_formula = True
        elif mark in ("\\)", "\\]"):
            in_formula = False
        elif mark in ("[", "!["):
            brackets += 1
        elif kind == "]":
            brackets = max(0, brackets - 1)
            in_address = mark == "]("
        elif kind == ")":
            in_address = False
        elif kind.isspace() and found.end() - start >= PIECE and found.end() < len(text):
            is_open = brackets or struck or in_address or in_formula or any(marks.values())
            if not is_open:
                return found.end()
    return limit if len(text) > limit else None


def _count(marks: dict[str, int], run: str, before: str, behind: str) -> None:
    """Open or close emphasis. Between blanks a star is none, within a word an underscore is none."""
    kind = run[0]
    opens, closes = bool(behind.strip()), bool(before.strip())
    if kind == "_" and before.isalnum() and behind.isalnum():
        return
    if closes and marks[kind]:
        marks[kind] = max(0, marks[kind] - len(run))
    elif opens:
        marks[kind] += len(run)


def read_inline(text: str) -> Content:
    """`text` with its marks as styles: the component classes `.em`, `.strong`, `.s`, `.code`, `.link`."""
    if not text:
        return Content("")
    parts: list[str] = []
    spans: list[Span] = []
    open_styles: list[tuple[str | Style, int]] = []
    place = 0

    def add(part: str) -> None:
        nonlocal place
        parts.append(part)
        place += len(part)

    for token in _parser().parseInline(text)[0].children or ():
        kind = token.type
        if kind == "text":
            add(token.content)
        elif kind in ("softbreak", "hardbreak"):
            add("\n")
        elif kind == "code_inline":
            begin = place
            add(token.content)
            spans.append(Span(begin, place, ".code"))
        elif kind == "image":
            begin = place
            add(f"🖼 {token.content or token.attrs.get('src', '')}")
            spans += _link_spans(begin, place, str(token.attrs.get("src", "")))
        elif kind == "link_open":
            open_styles.append((str(token.attrs.get("href", "")), place))
        elif kind == "link_close":
            address, begin = open_styles.pop()
            spans += _link_spans(begin, place, str(address))
        elif kind.endswith("_open"):
            open_styles.append((_STYLES.get(kind[:-5], ""), place))
        elif kind.endswith("_close"):
            style, begin = open_styles.pop()
            spans.append(Span(begin, place, style))
        else:
            add(token.content)
    return Content("".join(parts), spans=spans)


def _link_spans(begin: int, end: int, address: str) -> list[Span]:
    return [Span(begin, end, ".link"), Span(begin, end, Style.from_meta({LINK: address}))]
