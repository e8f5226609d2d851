"""Text from outside is data in every place where it can appear: never markup, never an action."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import App

from chat_app.engines.base import EngineInfo
from chat_app.tui.widgets.messages.view import MessageView
from llama_core.errors import NumericalError
from tests.support.fake_engine import FakeEngine
from tests.support.luck import SEED

MakeApp = Callable[..., Any]
STRINGS = ["[/", "[0]", "[@click=app.leave]x[/]", "[link=http://x]l[/link]", "\\[$primary"]


def screen_text(app: App[Any]) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@pytest.mark.parametrize("text", STRINGS)
async def test_messages_titles_notices(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, text: str
) -> None:
    """One string through the prompt, the user's message, the title, the queue, a notice, an error."""
    engine.script = lambda turns: iter([NumericalError(f"bad {text} number")])
    app = make_app()
    async with app.run_test(size=(110, 40), notifications=True) as pilot:
        chat = app.chat
        await ready(pilot)
        chat.prompt.set_text(f"say {text} end")
        await pilot.press("enter")
        await until(pilot, lambda: chat.session.path() and chat.session.path()[-1].status == "failed")
        await until(pilot, lambda: f"bad {text} number" in screen_text(app))
        assert screen_text(app).count(f"say {text} end") >= 2  # the message and the title
        chat.note(f"note {text}", "error")
        chat.show_queue([f"queued {text}"])
        chat.show_trouble(f"trouble {text}")
        chat.prompt.set_text(f"typed {text}")
        chat.prompt.border_title = ""
        await until(pilot, lambda: f"note {text}" in screen_text(app))
        for wanted in (f"queued {text}", f"trouble {text}", f"typed {text}"):
            assert wanted in screen_text(app)
        assert app.is_running


@pytest.mark.parametrize("text", STRINGS)
async def test_names_of_models_and_files(make_app: MakeApp, ready: Any, until: Any, text: str) -> None:
    app = make_app()
    async with app.run_test(size=(110, 40)) as pilot:
        await ready(pilot)
        app.chat.session.model.info = EngineInfo(
            f"m{text}", Path(f"/tmp/{text}.gguf"), f"b{text}", 1, 64, 1, True, template=f"t{text}"
        )
        app.chat.show_state()
        await until(pilot, lambda: screen_text(app).count(f"m{text}") >= 2)
        assert f"b{text}" in screen_text(app)
        app.chat.note(f"f{text} bad")
        await until(pilot, lambda: f"f{text} bad" in screen_text(app))
        app.show_text(f"title {text}", f"body {text}")
        await until(pilot, lambda: f"body {text}" in screen_text(app))
        assert f"title {text}" in screen_text(app)


async def test_markup_in_replies_is_literal(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any
) -> None:
    """Markdown is a reply's only markup: Textual's own brackets stay brackets."""
    engine.script = lambda turns: "Start `[0]` [@click=app.leave]x[/] [/ [bold\n\n```\n[/b]\n```\n\nend"
    app = make_app()
    async with app.run_test(size=(110, 40)) as pilot:
        await ready(pilot)
        await pilot.press(*"go", "enter")
        await until(pilot, lambda: "end" in screen_text(app))
        await ready(pilot)
        await until(pilot, lambda: "[@click=app.leave]x[/] [/ [bold" in screen_text(app))
        await until(pilot, lambda: "[/b]" in screen_text(app))
        lines = screen_text(app).splitlines()
        first, last = (next(y for y, line in enumerate(lines) if word in line) for word in ("Start", "end"))
        for y in range(first, last + 1):  # a click anywhere in the reply leads nowhere
            await pilot.click(offset=(12, y))
        assert app.is_running


async def test_links_are_named_and_never_opened(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(App, "open_url", lambda self, url, **_: opened.append(url))
    engine.script = lambda turns: "[press here](http://evil.example/%1b[2J')"
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press(*"go", "enter")
        await until(pilot, lambda: "press here" in screen_text(app))
        await ready(pilot)
        lines = screen_text(app).splitlines()
        y = next(n for n, line in enumerate(lines) if "press here" in line)
        await pilot.click(offset=(lines[y].index("press here") + 2, y))
        await until(pilot, lambda: app.news.said)
        assert opened == []
        (notice,) = app.news.said
        assert "evil.example" in notice
        assert "\x1b" not in notice


@pytest.mark.slow
async def test_ten_thousand_strings(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    """Random mixtures of markup's own characters, in messages and notices. The seed is in the failure."""
    source = random.Random(SEED)
    alphabet = ["[", "]", "/", "@click=", "app.leave", "(", ")", "$", "\\", "b", "0", "'", '"', " ", "=", "#"]
    app = make_app()
    async with app.run_test(size=(110, 40)) as pilot:
        await ready(pilot)
        for _ in range(500):
            lines = ["".join(source.choices(alphabet, k=12)).strip() or "." for _ in range(20)]
            text = "\n".join(lines)
            message = app.chat.session.conversation.add("user", text)
            view = MessageView(message)
            await app.chat.messages.mount(view)
            shown = str(view.query_one(".message-text").render())
            assert shown.split("\n") == lines, f"seed {SEED}"
            await view.remove()
            app.chat.session.conversation.select(None)
            app.chat.note(lines[0])
            assert str(app.chat.status.render()) == f"· {lines[0]}"
        assert app.is_running, f"seed {SEED}"


@pytest.mark.slow
async def test_ten_thousand_escape_sequences(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any
) -> None:
    """Random terminal sequences in replies, cut anywhere: nothing of them is ever drawn."""
    source = random.Random(SEED)
    starts = [
        "\x1b[",
        "\x1b]",
        "\x1bP",
        "\x1b_",
        "\x1b^",
        "\x9b",
        "\x9d",
        "\x90",
        "\x1b",
        "\x07",
        "\x00",
        "\u202e",
    ]

    def payload() -> str:
        body = "".join(source.choices("0123456789;?$>hlmJKcn ", k=source.randrange(6)))
        return source.choice(starts) + body + source.choice(["", "\x07", "\x1b\\", "\x9c", "m", "h"])

    engine.script = lambda turns: list("".join(payload() for _ in range(100)) + " fin")
    app = make_app(save=False)
    async with app.run_test(size=(110, 40)) as pilot:
        await ready(pilot)
        for number in range(100):
            app.chat.prompt.set_text("go")
            await pilot.press("enter")
            await until(pilot, lambda wanted=2 * number + 2: len(app.chat.session.conversation) == wanted)
            await ready(pilot)
            drawn = screen_text(app)
            bad = [
                c for c in drawn if (ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e"
            ]
            assert not bad, f"seed {SEED}"
