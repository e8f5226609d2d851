"""Outside text made inert: no control codes reach the terminal, and nothing invisible hides in it.

Every rule looks at one character at a time, so a sequence cut between two chunks is as harmless as a
whole one.
"""

from __future__ import annotations

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_TAGS = range(0xE0000, 0xE0080)


def _build_table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: None for code in range(0x20) if chr(code) not in "\n\t"}
    table |= dict.fromkeys(range(0x7F, 0xA0))
    # Reordering and tag characters change what a reader sees or hide text in it, so they are written out.
    table |= {code: f"⟨U+{code:04X}⟩" for code in (*_BIDI, *_TAGS)}
    # A lone surrogate (from an undecodable file name) cannot be encoded for the terminal.
    table |= dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
    return table


_TABLE = _build_table()


def clean(text: str) -> str:
    """`text` safe for a terminal: C0 but newline and tab, DEL and C1 dropped; bidi controls
    (U+202A-E, U+2066-9) and tag characters (U+E0000-7F) shown as ⟨U+202E⟩; lone surrogates as U+FFFD.

    Works one character at a time: clean(a + b) == clean(a) + clean(b). Markup is not touched; a sink that
    reads markup needs `Content` or `markup=False` besides.
    """
    return text.translate(_TABLE)


def clean_pasted(text: str) -> str:
    """`clean` for a paste, where terminals send carriage returns as line breaks."""
    return clean(text.replace("\r\n", "\n").replace("\r", "\n"))


def clean_line(text: str, limit: int = 0) -> str:
    """`clean` for a place of one line: line breaks and tabs become spaces; cut to `limit` characters
    with an ellipsis where `limit` is positive."""
    # NEL and the Unicode separators break lines in some terminals too; NEL is gone after `clean`.
    line = " ".join(clean(text).split())
    return line[: limit - 1] + "…" if 0 < limit < len(line) else line
