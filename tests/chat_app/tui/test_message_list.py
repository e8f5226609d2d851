"""A long chat: what is mounted is bounded, everything can be reached, and the place one reads at is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore
from chat_app.tui.markdown.layout import Layout
from chat_app.tui.widgets.messages import window
from chat_app.tui.widgets.messages.window import LINES, MESSAGES, lines_of, reach
from tests.chat_app.tui.test_resizes import frame
from tests.support.chats import keep
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
COUNT = 10
PARTS = 30


def long_text(number: int) -> str:
    """About 150 lines, of which each says where it stands."""
    return "\n\n".join(f"m{number}p{part} " + f"word{part} " * 40 for part in range(PARTS))


@pytest.fixture
def open_long(make_app: MakeApp, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes an app with a chat of 10 long messages, of which it mounts two in one stretch."""
    from chat_app.store.database import Database

    monkeypatch.setattr(window, "LINES", 400)

    def make() -> Any:
        store = ChatStore(Database(tmp_path / "chats.db"))
        chat = Conversation()
        for number in range(COUNT):
            chat.add("assistant" if number % 2 else "user", long_text(number))
        return make_app(store=store, chat_id=keep(store, chat))

    return make


def mounted(app: Any) -> list[str]:
    return [view.message.content.split("p", 1)[0] for view in app.chat.messages.views()]


def top_line(app: Any) -> str:
    """The first word of the first line in sight that has any."""
    return next(row for row in map(str.strip, frame(app)) if row.strip("▌▊ "))


@pytest.mark.parametrize("step", [1, -1])
def test_a_stretch_holds_no_more_messages_and_lines_than_it_may(step: int) -> None:
    chat = Conversation()
    for number in range(60):
        chat.add("user", "short" if number < 30 else long_text(number) * 3)
    path = chat.path()
    for start in range(0 if step > 0 else 1, 60):
        end = reach(path, start, step)
        taken = path[min(start, end) : max(start, end)]
        assert 1 <= len(taken) <= MESSAGES
        assert len(taken) == 1 or sum(map(lines_of, taken)) <= LINES
    assert reach(path, 60 if step > 0 else 0, step) == (60 if step > 0 else 0)


async def test_every_message_can_be_reached_and_few_are_mounted(
    open_long: Any, until: Any, ready: Any
) -> None:
    app = open_long()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        messages = app.chat.messages
        seen = set(mounted(app))
        for step, last in ((-1, "m0"), (1, f"m{COUNT - 1}")):
            while last not in mounted(app):
                place = top_line(app)
                await messages.load(step)
                await until(pilot, lambda: not messages._loading)
                assert top_line(app) == place  # what is read stays where it is
                assert len(messages.views()) <= COUNT / 2
                seen.update(mounted(app))
                messages.scroll_to(y=messages.max_scroll_y // 2, animate=False, immediate=True)
                await pilot.pause()
        assert seen == {f"m{number}" for number in range(COUNT)}
        assert not messages.following
        await pilot.press("ctrl+end")
        await until(pilot, lambda: messages.following and messages.scroll_y == messages.max_scroll_y)


async def test_what_one_says_brings_the_end_back(
    open_long: Any, engine: FakeEngine, until: Any, ready: Any
) -> None:
    engine.ctx_size = 1_000_000
    app = open_long()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        messages = app.chat.messages
        while messages.has_earlier:
            await messages.load(-1)
            await until(pilot, lambda: not messages._loading)
            messages.scroll_home(animate=False, immediate=True)
            await pilot.pause()
        assert messages.has_later
        app.chat.prompt.set_text("and now?")
        await pilot.press("enter")
        await until(pilot, lambda: "You said: and now?" in "\n".join(frame(app)))
        assert messages.views()[-1].message.content == "You said: and now?"


async def test_an_animated_scroll_to_the_end_follows_it_again(open_long: Any, until: Any, ready: Any) -> None:
    """As Textual scrolls to a message that gets the focus: the app once ended with that."""
    app = open_long()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        messages = app.chat.messages
        messages.scroll_relative(y=-10, animate=False, immediate=True)
        await pilot.pause()
        assert not messages.following
        messages.scroll_to(y=messages.max_scroll_y, animate=True, duration=0.1)
        await until(pilot, lambda: messages.following)


async def test_a_resize_keeps_the_line_that_is_read(open_long: Any, until: Any, ready: Any) -> None:
    app = open_long()
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        messages = app.chat.messages
        for view in messages.views()[:2]:  # what was typed, and a reply
            for part in (3, 20):
                word = f"{view.message.content.split('p', 1)[0]}p{part}"
                place = next(y for y in range(view._text.size.height) if word in row(view, y))
                y = view.virtual_region.y + view._text.virtual_region.y + place
                messages.scroll_to(y=y, animate=False, immediate=True)
                await pilot.pause()
                assert word in top_line(app)
                for size in ((70, 30), (61, 40), (120, 30)):
                    await pilot.resize_terminal(*size)
                    await pilot.pause()
                    assert word in top_line(app), size
                await pilot.press("ctrl+o")
                await pilot.pause()
                assert word in top_line(app)


def row(view: Any, y: int) -> str:
    return "".join(segment.text for segment in view._text.render_line(y))


async def test_theme_and_panel_cost_what_is_in_sight(
    open_long: Any, until: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in blocks that are laid out and lines that are drawn, of ten messages with 30 blocks each."""
    app = open_long()
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        laid_out, lines = [], []
        original_refit, original_line = Layout.refit, Layout.line

        def refit(self: Layout, width: int) -> None:
            laid_out.append(len(self._drawn))
            original_refit(self, width)

        def line(self: Layout, number: int) -> Any:
            lines.append(number)
            return original_line(self, number)

        monkeypatch.setattr(Layout, "refit", refit)
        monkeypatch.setattr(Layout, "line", line)
        app.theme = "textual-light"
        await pilot.pause()
        assert not laid_out
        assert 0 < len(lines) <= 3 * 30
        lines.clear()
        while not laid_out:  # one of the panel's forms takes as much room as the next
            lines.clear()
            await pilot.press("ctrl+o")
            await pilot.pause()
        assert 0 < len(laid_out) <= 2 * len(app.chat.messages.views())
        assert len(lines) <= 3 * 30
