r"""LaTeX formulas as Unicode, where that reads well: `x^2 \le \frac{a+b}{2}` is x² ≤ (a+b)/2.

`unicodeit` knows the signs. It leaves what it cannot write, so the meaning never changes; `pylatexenc` drops
braces, and its (a+b)/2 is a+b/2. Fractions, roots and words in a formula are written here.
"""

from __future__ import annotations

import re
from functools import cache

MAX_FORMULA = 400  # characters; a longer one stays as it is
# `\left` and its like only size what stands behind them.
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?=[\s()\[\]|/.\\])\.?")
_SPACES = re.compile(r"\\(?:[,;:! ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))")
_WORDS = re.compile(r"\\(?:text|textrm|mathrm|operatorname\*?){([^{}\\]*)}")
_FUNCTIONS = re.compile(
    r"\\((?:arc)?(?:sin|cos|tan)|(?:sin|cos|tan)h|cot|ln|log|exp|lim|max|min|sup|inf|det|dim|gcd|arg)(?![a-zA-Z])"
)
_FRACTION = re.compile(r"\\[dt]?frac{([^{}]*)}{([^{}]*)}")
_ROOT = re.compile(r"\\sqrt{([^{}]*)}")
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
_INDEX = re.compile(r"([\^_]{[^{}]*})")
_ALONE = re.compile(r"\\[a-zA-Z]+|\d+|\w")


def to_unicode(latex: str) -> str | None:
    """The formula in Unicode; None where something in it could not be written so."""
    if len(latex) > MAX_FORMULA:
        return None
    text = _SPACES.sub(" ", _SIZES.sub("", latex))
    text = _FUNCTIONS.sub(r"\1", _WORDS.sub(_words, text))
    text = _inner_first(text)
    if not all(command in _known() for command in _COMMAND.findall(text)):
        return None
    text = "".join(map(_signs, _INDEX.split(text)))
    return None if re.search(r"[\\{}&]", text) else " ".join(text.split())


def _signs(part: str) -> str:
    """An index, or what stands between two. One without small signs for all of it gets parentheses."""
    from unicodeit import replace

    shown: str = replace(part)
    if _INDEX.fullmatch(part) and re.search(r"[\^_{]", shown):
        return f"{part[0]}({replace(part[2:-1])})"
    return shown


def _words(found: re.Match[str]) -> str:
    """The words of `\\text`, kept together where they are an index."""
    return f"{{{found[1]}}}" if found.string[: found.start()].endswith(("^", "_")) else found[1]


def _inner_first(text: str) -> str:
    """Fractions and roots as a line, those inside others before these."""
    before = ""
    while text != before:
        before = text
        text = _ROOT.sub(_root, _FRACTION.sub(_fraction, text))
    return text


def _fraction(found: re.Match[str]) -> str:
    text = f"{_grouped(found[1])}/{_grouped(found[2])}"
    before = found.string[found.start() - 1 : found.start()]
    if before in ("^", "_"):
        return f"{{{text}}}"
    is_factor = re.match(r"[\w)\]\\]", before) or _is_bound(found)
    return f"({text})" if is_factor else text


def _root(found: re.Match[str]) -> str:
    return f"√({found[1]})" if _is_bound(found) else f"√{_grouped(found[1])}"


def _is_bound(found: re.Match[str]) -> bool:
    """Whether what stands behind belongs to it: a factor, a power."""
    return re.match(r"[\w(\[\\^]", found.string[found.end() : found.end() + 1]) is not None


def _grouped(text: str) -> str:
    text = text.strip()
    return text if _ALONE.fullmatch(text) else f"({text})"


@cache
def _known() -> frozenset[str]:
    """Every command that `unicodeit` writes, without its argument."""
    from unicodeit.data import COMBININGMARKS, REPLACEMENTS

    words = [*(one[0] for one in REPLACEMENTS), *(one[0] for one in COMBININGMARKS)]
    return frozenset(command for word in words for command in _COMMAND.findall(word))
