"""Keys that the user chose: what is wrong with them is said at the start."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.config.key_names import BINDING_IDS
from chat_app.tui.app import LlamaChatApp
from chat_app.tui.keymap import is_key, keymap_faults
from chat_app.tui.screens.chat import ChatScreen
from chat_app.tui.screens.help import HelpText
from chat_app.tui.widgets.prompt import PromptArea

MakeApp = Callable[..., Any]
TOGETHER = (LlamaChatApp.BINDINGS, ChatScreen.BINDINGS, PromptArea.BINDINGS)


def faults(**keymap: str) -> list[str]:
    named = {name.replace("_", ".", 1): keys for name, keys in keymap.items()}
    return keymap_faults(named, TOGETHER, BINDING_IDS)


@pytest.mark.parametrize(
    "key", ["ctrl+t", "f12", "alt+up", "é", "ctrl+é", "slash", "question_mark", "x", "ctrl+@"]
)
def test_keys_there_are(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "ctrl+", "crtl+t", "ctrl+enterr", "control+x", "pgup"])
def test_keys_there_are_not(key: str) -> None:
    assert not is_key(key)


def test_the_keys_there_are_by_themselves_have_no_fault() -> None:
    assert faults() == []
    assert faults(chat_new="ctrl+t", prompt_send="ctrl+j", prompt_newline="enter") == []


def test_a_key_that_does_two_things_is_said() -> None:
    assert faults(chat_new="ctrl+r") == [
        "[keymap] Ctrl+R is the key of chat.new and of chat.history: give one another."
    ]


def test_a_name_that_no_key_has_is_said() -> None:
    (fault,) = faults(chat_reset="ctrl+t,pagdown")
    assert fault == "[keymap] chat.reset: there is no key 'pagdown'. Did you mean pagedown?"


async def test_the_app_says_it(make_app: MakeApp, drive: Any) -> None:
    async with make_app(keymap={"chat.new": "ctrl+r"}).run_test() as pilot:
        user = drive(pilot)
        await user.until(lambda: any("chat.history" in note for note in user.notices()))


async def test_the_menu_offers_what_a_message_takes(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("old words")
        await user.press("alt+up", "enter")
        await user.until(lambda: "Inspect its tokens" in user.screen_text())
        assert "Reopen its thought" not in user.screen_text(), "it has none"
        assert "Previous branch" not in user.screen_text(), "it is the only one"
        await user.press("escape", "alt+r")
        await user.ready()
        await user.press("alt+up", "enter")
        await user.until(lambda: "Previous branch  (←)" in user.screen_text())
        await user.press("escape", "alt+up", "enter")
        await user.until(lambda: "Edit: a new branch" in user.screen_text())
        assert "Inspect its tokens" not in user.screen_text(), "it is a question"


async def test_undo_in_an_empty_prompt_gives_the_terminal_back(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[None] = []
    monkeypatch.setattr(LlamaChatApp, "action_suspend_process", lambda app: given_back.append(None))
    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("a", "b", "ctrl+u", "ctrl+z")
        assert (user.chat.prompt.text, given_back) == ("ab", [])
        await user.press("enter")
        await user.ready()
        await user.press("ctrl+z")
        assert (user.chat.prompt.text, given_back) == ("", [None]), "what was sent is no draft"


async def test_enter_on_a_message_opens_its_menu(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("old words")
        await user.press("alt+up", "alt+up", "enter")
        await user.until(lambda: "Edit: a new branch  (Alt+E)" in user.screen_text())
        await user.press("down", "enter")
        await user.until(lambda: user.chat.composer.editing is not None)
        assert user.chat.prompt.text == "old words"


def spoken(tree: ast.AST) -> list[str]:
    """The strings of a module but for its docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return [one.value for one in constants if isinstance(one.value, str)]


@pytest.mark.parametrize("package", ["tui", "chat"])
def test_no_sentence_names_a_key_that_may_be_another(package: str) -> None:
    folder = Path(__file__).parents[3] / "chat_app" / package
    modules = {path: spoken(ast.parse(path.read_text(encoding="utf-8"))) for path in folder.rglob("*.py")}
    fixed = re.compile(r"\bEsc\b|\b(Ctrl|Alt|Shift)\+|\bF\d+\b")
    found = [(path.name, words) for path, all_words in modules.items() for words in all_words]
    assert len(found) > 1000
    assert [one for one in found if fixed.search(one[1])] == [], "write {id of the binding}, see key_words"


async def test_dialogs_name_the_keys_that_the_user_has(make_app: MakeApp, drive: Any) -> None:
    keymap = {"dialog.close": "f9", "settings.apply": "ctrl+t", "history.rename": "n", "chat.tokens": "alt+z"}
    keymap |= {"message.copy": "alt+k"}
    async with make_app(keymap=keymap).run_test(size=(120, 50)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        for keys, words in [
            (["f2"], ("Apply (Ctrl+T)", "Cancel (F9)")),
            (["ctrl+r"], ("n rename", "e export · F9")),
            (["alt+up", "enter"], ("(Alt+K)", "F9 closes")),
            (["f1"], ("F9 closes",)),
        ]:
            await user.press(*keys)
            await user.until(lambda words=words: all(one in user.screen_text() for one in words))
            if keys == ["f1"]:
                assert "tinted reply (Alt+Z)" in pilot.app.screen.query_one(HelpText).content.plain
            await user.press("f9")
            await user.until(lambda: pilot.app.screen is user.chat)
