"""The house rules that a machine can hold: who may import whom, and what CI runs."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up. A module imports from its own place in a row, and from the rows above its own here; a
# name stands for what lies below it, and the longest name that fits a module counts.
ORDER = {
    "llama_core": (
        ("errors", "events", "choices", "constraints.grammar", "blas", "own_code", "cpu"),
        ("sampling.params",),
        ("ordinary_files", "trusted_files"),
        ("memory", "config", "file_rows"),
        ("cores", "quant"),
        ("tokenizers",),
        ("architectures",),
        ("checkpoint",),
        ("backends.states",),
        ("loaders", "backends.base", "backends.positions", "backends.step_watch"),
        ("backends.numpy",),
        ("backends.jit",),
        ("sampling", "constraints"),
        ("memory_needed", "roofline"),
        ("estimate",),
        ("engine",),
        ("profiling",),
    ),
    "chat_app": (
        ("text",),
        ("config", "files", "openai", "console.streams", "console.interrupt"),
        ("attachments",),
        ("models",),
        ("engines.base",),
        ("kv_files",),
        ("engines",),
        ("chat.conversation",),
        ("store",),
        ("chat",),
        ("console",),
        ("batch", "serve"),
        ("tui",),
        ("commands.options",),
        ("lab",),
        ("commands",),
        ("cli",),
    ),
}
# What each package must not know at all.
FOREIGN = {
    "llama_core": ("chat_app", "textual", "rich", "platformdirs"),
    "chat_app/chat": ("textual", "rich"),
    "chat_app/engines": ("textual", "rich"),
    "chat_app/store": ("textual", "rich", "llama_core.engine", "llama_core.backends"),
    "chat_app/serve": ("textual", "rich"),
    "chat_app/tui/widgets": ("llama_core.engine", "llama_core.backends.numpy", "llama_core.backends.jit"),
}


def python_files(below: str) -> list[Path]:
    return sorted((ROOT / below).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for package in ORDER for path in python_files(package)}


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, anywhere in it; those for type checkers count."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += (name if name in MODULES else node.module for name in inner)
    return tuple(found)


@functools.cache  # not when tests are collected, which every process does
def graph() -> dict[str, list[str]]:
    """Which of our modules each of them imports."""
    return {
        module: sorted({name for name in imports(path) if name in MODULES} - {module})
        for module, path in MODULES.items()
    }


def place_of(module: str) -> tuple[int, str] | None:
    """(row, name) of a module in ORDER; None for a package's own face and its entry point."""
    package, _, rest = module.partition(".")
    fitting = [
        (len(name), row, name)
        for row, names in enumerate(ORDER[package])
        for name in names
        if rest == name or rest.startswith(f"{name}.")
    ]
    if not fitting:
        return None
    _, row, name = max(fitting)
    return row, name


def test_every_module_has_its_place() -> None:
    faces = ("llama_core", "chat_app", "chat_app.__main__", "llama_core.backends")
    homeless = [module for module in MODULES if place_of(module) is None and module not in faces]
    assert homeless == [], "give it a row in ORDER"


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str) -> None:
    breaches = []
    for module, names in graph().items():
        here = place_of(module)
        for name in names:
            there = place_of(name)
            if not module.startswith(package) or not name.startswith(package) or not here or not there:
                continue
            if there[0] > here[0] or (there[0] == here[0] and there[1] != here[1]):
                breaches.append(f"{module} imports {name}")
    assert breaches == []


def test_no_two_modules_import_each_other_however_long_the_way() -> None:
    done: set[str] = set()
    circles: list[str] = []

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            circles.append(" -> ".join([*way[way.index(module) :], module]))
            return
        if module in done:
            return
        for name in graph()[module]:
            visit(name, [*way, module])
        done.add(module)

    for module in graph():
        visit(module, [])
    assert circles == []


@pytest.mark.parametrize("below", FOREIGN)
def test_what_a_package_must_not_know(below: str) -> None:
    assert python_files(below), f"{below} is gone: mend the rule"
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(below)
        for name in imports(path)
        if any(name == start or name.startswith(f"{start}.") for start in FOREIGN[below])
    ]
    assert breaches == []


def test_only_the_commands_import_the_profilers() -> None:
    found = [
        f"{module} imports {name}"
        for module, names in graph().items()
        for name in names
        if name.startswith("llama_core.profiling")
        and not module.startswith(("llama_core.profiling", "chat_app.commands", "chat_app.lab"))
    ]
    assert found == []


def test_ci_runs_the_readmes_test_line() -> None:
    line = "pip install uv && uv run pytest"
    assert line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert line in readme
    assert "pip install uv && uv run llama-chat" in readme


def test_whoever_catches_everything_says_why() -> None:
    """On the line itself; a linter's mark alone is no reason."""
    broad = re.compile(r"\s*except(?: \(?(?:Base)?Exception\b[^:]*)?:")
    reason = re.compile(r"# (?:noqa: [A-Z]+\d+[ -]+)?(?!noqa)\w.{9}")
    silent = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES.values()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if broad.match(line) and not reason.search(line)
    ]
    assert silent == []
