"""The external editor: the terminal comes back whatever happens, and so does the text."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MakeApp = Callable[..., Any]


@pytest.fixture
def suspensions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to the terminal. The headless driver cannot be suspended, so this stands in its place;
    like Textual's own, it does not come back where something is raised inside."""
    from textual.app import App

    seen: list[str] = []

    @contextlib.contextmanager
    def suspend(self: App[Any]) -> Iterator[None]:
        seen.append("away")
        yield
        seen.append("back")

    monkeypatch.setattr(App, "suspend", suspend)
    return seen


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/editor", "could not be used"),
        ('editor "unfinished', "could not be used"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "ended with code 3"),
    ],
)
async def test_an_editor_that_fails_leaves_text_and_terminal(
    make_app: MakeApp,
    drive: Any,
    suspensions: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    says: str,
) -> None:
    monkeypatch.setenv("VISUAL", command)
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"kept", "ctrl+g")
        await user.until(lambda: any(says in note for note in user.notices()))
        assert user.chat.prompt.text == "kept"
        assert suspensions in ([], ["away", "back"])
        await user.press("x")
        assert user.chat.prompt.text == "keptx"


async def test_what_the_editor_wrote_is_the_prompt(
    make_app: MakeApp, drive: Any, suspensions: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "edit.py"
    program.write_text(
        "import os, sys\npath = sys.argv[1]\nassert os.stat(os.path.dirname(path)).st_mode & 0o77 == 0\n"
        "text = open(path).read()\nopen(path, 'w').write(text + ' and more\\n')\n"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {program}")
    monkeypatch.delenv("VISUAL", raising=False)
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press(*"one", "ctrl+g")
        await user.until(lambda: user.chat.prompt.text == "one and more")
        assert suspensions == ["away", "back"]
