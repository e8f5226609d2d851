"""What the app says to its terminal and asks of it: the window's title, the bell, light or dark."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.tui.terminal.background import AnswerFilter, BackgroundTold
from chat_app.tui.terminal.title import BACK, KEEP, sequence, title_of
from chat_app.tui.themes import DARK, LIGHT
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
ANSWER = "\x1b]11;rgb:fbfb/f8f8/f3f3\x1b\\"


def test_a_title_is_inert() -> None:
    assert title_of("", writing=False) == "llama-chat"
    assert title_of("Llamas", writing=True) == "● Llamas · llama-chat"
    told = sequence(title_of("a\x07b\x1b]0;c\n" + "x" * 500, writing=False))
    assert told.removeprefix("\x1b]2;").removesuffix("\x1b\\").isprintable()
    assert len(told) < 120


async def test_the_window_is_named_after_the_chat_and_the_bell_rings_if_wanted(
    make_app: MakeApp, drive: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bell in (True, False):
        async with make_app(bell=bell).run_test() as pilot:
            user = drive(pilot)
            await user.ready()
            told: list[str] = []
            rung: list[bool] = []
            monkeypatch.setattr(user.app._driver, "write", told.append)
            monkeypatch.setattr(user.app, "bell", lambda rung=rung: rung.append(True))
            engine.gate.clear()
            user.chat.prompt.insert("About wheels")
            await user.press("enter")
            await user.until(lambda told=told: sequence("● About wheels · llama-chat") in told)
            assert not rung
            engine.gate.set()
            await user.ready()
            await user.until(lambda told=told: told[-1] == sequence("About wheels · llama-chat"))
            assert rung == [True] * bell


def test_the_answer_is_taken_out_in_whatever_pieces_it_comes() -> None:
    for cut in range(2, len(ANSWER)):  # a lone ESC is the key
        answers = AnswerFilter()
        assert answers.filter("ab" + ANSWER[:cut]) == "ab"
        assert answers.told is None
        assert answers.filter(ANSWER[cut:] + "c") == "c"
        assert answers.told == (0xFB, 0xF8, 0xF3)


@pytest.mark.parametrize("typed", ["\x1b", "\x1b[A", "\x1b]12", "x\x1bOP", "\x1b]11;rgb:zz", "1;rgb:"])
def test_keys_are_no_answer(typed: str) -> None:
    assert AnswerFilter().filter(typed) == typed


def test_what_was_held_back_in_vain_is_given_up() -> None:
    answers = AnswerFilter()
    assert answers.filter("\x1b]11") == ""
    assert answers.rest() == "\x1b]11"
    assert answers.filter("a") == "a"


async def test_light_or_dark_is_the_terminals_until_the_user_chooses(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        for rgb, theme in (((250, 250, 250), LIGHT), ((20, 20, 30), DARK), ((200, 200, 190), LIGHT)):
            user.app.post_message(BackgroundTold(rgb))
            await user.until(lambda theme=theme: user.app.theme == theme)
        assert "theme" not in user.app._ui_state
        user.app.theme = "nord"
        await user.until(lambda: user.app._ui_state.get("theme") == "nord")
        user.app.post_message(BackgroundTold((250, 250, 250)))
        await pilot.pause()
        assert user.app.theme == "nord"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_real_terminal(tiny_model: Path, llama_chat_home: Path) -> None:
    from tests.support.terminal import Terminal

    argv = [sys.executable, "-m", "chat_app", "-m", str(tiny_model), "--backend", "numpy"]
    app = Terminal(argv, os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}, (120, 36))
    try:
        app.until(lambda out: KEEP.encode() in out and b"\x1b]11;?\x1b\\" in out)
        app.send(f"typed{ANSWER} on")
        app.until(lambda out: b"48;2;251;248;243" in out)  # the light theme's background
        app.until(lambda out: b"typed on" in out)
        app.send("\x03\x03\x03")
        app.until(lambda out: BACK.encode() in out)
    finally:
        app.close()
