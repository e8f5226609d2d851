"""Texts that measurements read: a paragraph of plain English, and what every Python brings along."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path

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


# Modules of the standard library with much prose in their docstrings.
PROSE = (
    "difflib",
    "_pydecimal",
    "statistics",
    "doctest",
    "heapq",
    "random",
    "optparse",
    "inspect",
    "zipfile",
)


@cache
def several_texts() -> dict[str, str]:
    """Texts of different kinds that every Python brings along, by name: its language reference, its licence
    (where it lies beside the library), the prose of docstrings, and code; TEXT_CHARACTERS each at most."""
    library = Path(os.__file__).parent
    found = {"language reference": language_reference()}
    licence = library / "LICENSE.txt"
    if licence.is_file():
        found["licence"] = licence.read_text(encoding="utf-8", errors="replace")
    prose = []
    for name in PROSE:
        tree = ast.parse((library / f"{name}.py").read_text(encoding="utf-8"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        prose += [
            text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))
        ]
    found["docstrings"] = "\n\n".join(prose)
    found["code"] = (library / "argparse.py").read_text(encoding="utf-8")
    return {name: text[:TEXT_CHARACTERS] for name, text in found.items()}
