"""Texts that tell tokenizers apart: the places where pre-tokenizers, normalizers and space rules differ."""

from __future__ import annotations

from collections.abc import Iterator

# A prime number of them, so that every stride through the list visits each (see `probes`).
ATOMS = (
    # words: lower, upper, title and mixed case, with letters that have no case or two
    *("the", "Word", "HTTP", "X", "iPhone", "getURLFor", "caf\u00e9", "\u00dcN\u00cf", "\u01c5", "\u02b0"),
    # contractions in both cases, also by a letter that folds to s, and by a curly apostrophe
    *("'s", "'T", "'re", "'VE", "'m", "'Ll", "'d", "'\u017f", "\u2019s", "'"),
    # digits in runs, and numbers of other scripts
    *("1", "22", "333", "4444", "55555", "666666", "7777777", "88888888", "999999999", "1234567890"),
    *("\u2153", "\u0663\u0664", "\u2167"),
    # white space
    *(" ", "  ", "     ", "\t", "\n", "\r", "\r\n", "\n\n", " \n ", "\t\t\n", "\u00a0", "\u3000", "\u2028"),
    # scripts, marks, pictures, signs without a width
    *("\u4f60\u597d", "\u3053\u3093", "\ud55c\uad6d", "\u0410\u043b\u0438"),
    *("\u0939\u093f\u0928\u094d\u0926\u0940", "e\u0301", "\u0301"),
    *("\U0001f600", "\U0001f468\u200d\U0001f469", "\u200b", "\ufeff"),
    # punctuation and symbols
    *(".", "!!!", "...", "/", "//", "_", "-", "$", "+=", "@#%", "`", "(", ",", "\u2014", "\u20ac", "^"),
)  # fmt: skip
SENTENCES = (
    "Hello world, it's 12345 o'clock -- isn't IT'S 9?",
    " leading, trailing ",
    "  two before and two behind  ",
    "tabs\tand\n\nline feeds \n  indent\r\n    more",
    "CamelCaseHTTPServer snake_case x=y+1; // (a[0]) {b} ... !!!???",
    "caf\u00e9 \u00fcber na\u00efve \u0410\u043b\u0438\u0441\u0430",
    "1,234.56 100% $5 #1 @me <a href='x'>",
    "the end of the text and then in the rain   of   spaces",
)
ATOMS_PER_PROBE = 9


def probes() -> Iterator[str]:
    """Some 700 texts of about two dozen characters, always the same; each atom stands behind each other."""
    yield from SENTENCES
    yield from ATOMS
    n = len(ATOMS)
    for stride in range(1, n):
        ring = [ATOMS[k * stride % n] for k in range(n + 1)]
        for start in range(0, n, ATOMS_PER_PROBE):
            # The last of one probe is the first of the next, so that no neighbours are torn apart.
            yield "".join(ring[start : start + ATOMS_PER_PROBE + 1])
