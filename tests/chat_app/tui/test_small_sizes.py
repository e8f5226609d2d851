"""What is seen at 60 and 80 columns and 24 rows: whole keys, whole lists, the mark in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import OptionList, Static

from chat_app.chat.inspection import Alternative, TokenLook
from chat_app.config.settings import PARAMETERS
from chat_app.tui.widgets import key_bar

MakeApp = Callable[..., Any]


def last_line(user: Any) -> str:
    return user.screen_text().splitlines()[-1].rstrip()


async def test_six_whole_keys_at_sixty_columns(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(60, 20)) as pilot:
        user = drive(pilot)
        await user.ready()
        assert last_line(user).split("  ")[-1] == "^O Panel"
        assert len(last_line(user).split("  ")) == 6
        await user.say("hello")
        await user.press("alt+up")
        await user.until(lambda: last_line(user).endswith("Alt+R Regen"))


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 40)])
async def test_the_path_stands_below_however_many_models(
    make_app: MakeApp, drive: Any, size: tuple[int, int]
) -> None:
    from chat_app.tui.screens.choose_model import ChooseModelScreen

    async with make_app().run_test(size=size) as pilot:
        user = drive(pilot)
        await user.ready()
        user.app.push_screen(ChooseModelScreen())
        await user.until(lambda: user.app.screen.query(OptionList))
        models = user.app.screen.query_one(OptionList)
        await user.until(lambda: models.option_count)
        models.add_options([f"model {number}" for number in range(40)])
        await user.until(lambda: models.max_scroll_y > 0)
        text = user.screen_text()
        assert "or a file, a folder" in text
        assert "Esc closes" in text
        assert models.size.height >= 3


@pytest.mark.parametrize("width", range(1, 90))
def test_keys_that_do_not_fit_are_left_out_whole(width: int) -> None:
    words = [("F1", "Help"), ("^P", "Commands"), ("i", "Inspect"), ("^O", "Panel")]
    hints = [key_bar.Hint(key, label, "", Static()) for key, label in words]
    tight, shown = key_bar.fit(hints, width)
    texts = [f"{key} {label}" if tight else f" {key} {label}" for key, label, *_ in shown]
    assert len("  ".join(texts)) <= width
    assert len(shown) == len(hints) or width < 34  # with the short labels


async def test_the_first_model_is_marked(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_app.tui.screens.choose_model import ChooseModelScreen

    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        chosen: list[Any] = []
        user.app.push_screen(ChooseModelScreen(), chosen.append)
        await user.until(lambda: user.app.screen.query(OptionList))
        models = user.app.screen.query_one(OptionList)
        await user.until(lambda: models.option_count)
        await user.press("enter")
        await user.until(lambda: chosen)


def test_the_marked_alternative_is_in_sight() -> None:
    from chat_app.tui.screens.inspector import describe

    top = tuple(Alternative(n, f"t{n}", bytes([n]), 0.1) for n in range(10))
    look = TokenLook(0, top[0], 1, 1.0, top)
    for height in (8, 13, 14, 30):
        for choice in range(10):
            lines = describe(look, choice, height).plain.rstrip("\n").split("\n")
            assert len(lines) <= max(height, 9)
            assert sum(line.startswith("▶") for line in lines) == 1
            assert f"▶ t{choice} " in "\n".join(lines)
    labels = describe(look, 0).plain.split("\n")[1:6]
    assert {line[11] for line in labels} == {" "}
    assert all(line[12] != " " for line in labels)


@pytest.mark.parametrize("width", [80, 120])
async def test_the_longest_name_of_a_parameter_is_whole(make_app: MakeApp, drive: Any, width: int) -> None:
    async with make_app().run_test(size=(width, 50)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("f2")
        await user.until(lambda: "num_ctx" in user.screen_text())
        longest = max(PARAMETERS, key=len)
        user.app.screen.query_one(f"#set-{longest}").focus()  # which scrolls to it
        await user.until(lambda: longest in user.screen_text())


async def test_all_parameters_on_a_short_screen(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("f2")
        await user.until(lambda: "num_ctx" in user.screen_text())
        text = user.screen_text()
        assert all(name in text for name in ("System prompt", "Apply"))
        for name in ("repeat_last_n", "seed", "stop"):
            user.app.screen.query_one(f"#set-{name}").focus()
            await user.until(lambda name=name: name in user.screen_text())
        user.app.screen.query_one("#set-stop").value = '["END", "\\n"]'
        await user.press("ctrl+s")
        await user.until(lambda: user.chat.session.settings.params.stop == ("END", "\n"))
        for typed, stop in (("plain", ("plain",)), ('"a b"', ("a b",)), ("", ())):
            await user.press("f2")
            await user.until(lambda: user.app.screen.query("#set-stop"))
            user.app.screen.query_one("#set-stop").value = typed
            await user.press("ctrl+s")
            await user.until(lambda stop=stop: user.chat.session.settings.params.stop == stop)


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_help_keeps_its_two_columns(make_app: MakeApp, drive: Any, width: int) -> None:
    from chat_app.tui.screens.help import HelpText

    async with make_app().run_test(size=(width, 40)) as pilot:
        user = drive(pilot)
        await user.press("f1")
        await user.until(lambda: user.app.screen.query(HelpText))
        await asyncio.sleep(0)
        text = user.app.screen.query_one(HelpText)
        await user.until(lambda: "New line" in str(text.content))
        lines = text.content.plain.split("\n")
        keys = next(line for line in lines if "Alt+Enter" in line)
        assert keys.strip() == "Ctrl+J, Shift+Enter, Alt+Enter"
        table = lines[
            : lines.index('A block in """ sends several lines · the mouse selects text, Ctrl+C copies it')
        ]
        room = max(text.size.width, 28 + 10)
        assert all(len(line) <= room for line in table if line[:28].strip() == "")


def test_the_ids_of_keys_are_all_known() -> None:
    """The table that the settings are checked by names every binding there is, and no other."""
    import importlib
    import pkgutil

    from textual.binding import Binding
    from textual.dom import DOMNode

    import chat_app
    from chat_app.config.key_names import BINDING_IDS

    for package in ("screens", "widgets"):
        folder = importlib.import_module(f"chat_app.tui.{package}")
        for module in pkgutil.iter_modules(folder.__path__, f"chat_app.tui.{package}."):
            importlib.import_module(module.name)
    importlib.import_module("chat_app.tui.app")
    assert chat_app

    found: set[str] = set()
    todo: list[type[DOMNode]] = [DOMNode]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith("chat_app."):
            bindings = kind.__dict__.get("BINDINGS", ())
            found |= {one.id for one in bindings if isinstance(one, Binding) and one.id}
    assert found == set(BINDING_IDS)


async def test_the_welcome_names_a_newline_every_terminal_sends(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        from chat_app.tui.widgets.welcome import Welcome

        assert "Ctrl+J" in str(user.app.screen.query_one(Welcome, Static).content)
