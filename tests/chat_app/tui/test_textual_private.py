"""Textual's private parts: in one module, and there in the version that is installed."""

from __future__ import annotations

import ast
from importlib.metadata import version
from pathlib import Path

import chat_app.tui
from chat_app.tui import textual_private

# Of named tuples, of Python and of its `os` module.
PUBLIC = ("_replace", "_exit", "__slots__", "__init__", "__name__", "__stdin__", "__stdout__", "__dict__")
SOURCES = Path(chat_app.tui.__file__).parent


def test_this_version_of_textual_was_tested() -> None:
    """Another one: look at what `textual_private` names, run the tests of the screen, then change TESTED."""
    assert version("textual") == textual_private.TESTED


def test_what_is_overridden_is_there() -> None:
    parts = textual_private.OVERRIDDEN
    missing = [f"{owner.__name__}.{name}" for owner, name in parts if not hasattr(owner, name)]
    assert missing == [], "Textual has them no more: see textual_private.py"


def test_no_other_module_imports_a_private_one() -> None:
    found = []
    for path in SOURCES.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith("textual._") for name in names) and path.name != "textual_private.py":
                found.append(str(path))
    assert found == []


def test_private_attributes_are_our_own() -> None:
    """`object._name` where the object is another's: our own classes reach into themselves alone."""
    overridden = {name for _, name in textual_private.OVERRIDDEN}
    found = []
    for path in SOURCES.rglob("*.py"):
        if path.name == "textual_private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr in PUBLIC:
                continue
            owner = node.value
            is_super = isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "super"
            if getattr(owner, "id", "") not in ("self", "cls") and not (is_super and node.attr in overridden):
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert found == []
