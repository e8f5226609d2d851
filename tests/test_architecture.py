"""The house rules that a machine can hold: who may import whom, and what CI runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# (files below this path, may not import what starts with one of these)
FORBIDDEN = [
    ("llama_core", ("chat_app", "textual", "rich", "platformdirs")),
    (
        "llama_core/quant",
        (
            "llama_core.engine",
            "llama_core.backends.numpy.model",
            "llama_core.backends.jit",
            "llama_core.loaders",
        ),
    ),
    (
        "llama_core/tokenizers",
        (
            "llama_core.engine",
            "llama_core.backends.numpy.model",
            "llama_core.backends.jit",
            "llama_core.loaders",
        ),
    ),
    (
        "llama_core/architectures",
        ("llama_core.engine", "llama_core.backends", "llama_core.loaders", "llama_core.checkpoint"),
    ),
    ("llama_core/loaders", ("llama_core.engine", "llama_core.backends")),
    ("llama_core/backends/jit", ("llama_core.engine.engine", "llama_core.engine.text", "llama_core.loaders")),
    (
        "llama_core/backends/numpy/model.py",
        ("llama_core.engine.engine", "llama_core.engine.text", "llama_core.backends.jit"),
    ),
    (
        "llama_core/backends/numpy/ops.py",
        (
            "llama_core.backends.numpy.model",
            "llama_core.backends.numpy.attention",
            "llama_core.engine",
            "llama_core.backends.jit",
        ),
    ),
    ("llama_core/engine/engine.py", ("llama_core.tokenizers", "llama_core.loaders")),
    (
        "chat_app/tui/widgets",
        ("llama_core.engine.engine", "llama_core.engine.text", "chat_app.engines.host"),
    ),
    ("chat_app/chat/conversation.py", ("textual", "llama_core")),
    ("chat_app/chat", ("textual", "chat_app.tui.widgets", "chat_app.tui.screens")),
    ("chat_app/store", ("textual", "llama_core")),
    ("chat_app/chat/metrics.py", ("textual",)),
]


def python_files(below: str) -> list[Path]:
    path = ROOT / below
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(below: str, banned: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(below)
        for name in imports(path)
        if any(name == start or name.startswith(start + ".") for start in banned)
    ]


@pytest.mark.parametrize(("below", "banned"), FORBIDDEN, ids=[below for below, _ in FORBIDDEN])
def test_imports_go_one_way(below: str, banned: tuple[str, ...]) -> None:
    assert python_files(below), f"{below} is gone: mend the rule"
    assert breaches(below, banned) == []


def test_only_the_command_line_imports_the_profilers() -> None:
    allowed = {*python_files("chat_app/commands"), *python_files("chat_app/lab")}
    outside = [path for path in python_files("chat_app") + python_files("llama_core") if path not in allowed]
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in outside
        if "profiling" not in path.parts
        for name in imports(path)
        if name.startswith("llama_core.profiling")
    ]
    assert found == []


def test_ci_runs_the_readmes_test_line() -> None:
    line = "pip install uv && uv run pytest"
    assert line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert line in readme
    assert "pip install uv && uv run llama-chat" in readme
