"""The reply's widget: one for all blocks, drawn where it is seen, copied as it was written."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Offset
from textual.selection import SELECT_ALL, Selection

from chat_app.tui.markdown.layout import Layout
from chat_app.tui.markdown.widget import FlowText
from tests.chat_app.text.test_markdown import REPLY


class Stage(App[None]):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.shown = FlowText(text, self.links.append)

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield self.shown

    def text(self) -> str:
        strips = [self.shown.render_line(y) for y in range(self.shown.size.height)]
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def test_it_grows_in_place() -> None:
    app = Stage("")
    async with app.run_test(size=(60, 20)) as pilot:
        for place in range(0, len(REPLY), 7):
            app.shown.write(REPLY[place : place + 7])
            await pilot.pause()
        assert app.shown.source == REPLY
        assert len(app.shown.children) == 0  # one widget, however many blocks
        grown = app.text()
        app.shown.set_text("")
        await pilot.pause()
        assert app.shown.size.height == 0
        app.shown.set_text(REPLY)
        await pilot.pause()
        assert app.text() == grown
        assert "┼" in grown
        assert "▌ ▌ deep" in grown


async def test_only_what_is_seen_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    original = FlowText._draw

    def counted(self: FlowText, layout: Any, y: int, width: int) -> Any:
        drawn.append(y)
        return original(self, layout, y, width)

    monkeypatch.setattr(FlowText, "_draw", counted)
    app = Stage("".join(f"- item {number}\n" for number in range(1000)))
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert app.shown.size.height == 1000
        assert len(set(drawn)) <= 25
        drawn.clear()
        app.query_one(VerticalScroll).scroll_end(animate=False)
        await pilot.pause()
        assert 1 <= len(set(drawn)) <= 25
        drawn.clear()
        app.shown.write(" and more")
        await pilot.pause()
        assert set(drawn) == {999}


async def test_the_width_and_the_theme_change() -> None:
    app = Stage(REPLY + "\n" + "long " * 30)
    async with app.run_test(size=(60, 20)) as pilot:
        wide = app.shown.size.height
        await pilot.resize_terminal(24, 20)
        await pilot.pause()
        assert app.shown.size.height > wide
        before = app.shown.render_line(0)
        app.theme = "textual-light"
        await pilot.pause()
        assert app.shown.render_line(0) != before
        app.theme = "ansi-dark"
        await pilot.pause()
        assert "Title" in app.text()


async def test_other_colours_lay_nothing_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Stage(REPLY)
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        calls: list[str] = []
        for name in ("update", "refit"):
            monkeypatch.setattr(Layout, name, lambda *_, name=name: calls.append(name))
        app.theme = "textual-light"
        await pilot.pause()
        assert calls == []


async def test_what_is_selected_is_copied_as_it_was_written() -> None:
    app = Stage("first " + "word " * 30 + "\n\n- one\n- two\n\n```py\n" + "x" * 90 + "\n```\n")
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        copied, _ = app.shown.get_selection(SELECT_ALL) or ("", "")
        paragraph = ("first " + "word " * 30).strip()
        assert copied.strip().split("\n") == [paragraph, "", "one", "two", "", "", "x" * 90]
        part = Selection(Offset(2, 2), Offset(2, 3))
        assert (app.shown.get_selection(part) or ("",))[0] == "e\ntw"
        app.screen.selections = {app.shown: Selection(Offset(1, 2), Offset(2, 2))}
        await pilot.pause()
        line = next(y for y in range(20) if "• one" in "".join(s.text for s in app.shown.render_line(y)))
        marked = [s.text for s in app.shown.render_line(line) if s.style and s.style.bgcolor != _plain(app)]
        assert marked == ["n"]


def _plain(app: Stage) -> Any:
    return app.shown.visual_style.rich_style.bgcolor


async def test_a_link_says_where_it_leads() -> None:
    app = Stage("See [this](https://example.org/a&#x202e;b) now.")
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        await pilot.click(app.shown, offset=(5, 0))
        assert len(app.links) == 1
        assert app.links[0].startswith("https://example.org/a")
        assert "\u202e" not in app.links[0]
        await pilot.click(app.shown, offset=(0, 0))
        assert len(app.links) == 1


async def test_a_layout_between_two_additions_loses_none() -> None:
    """Textual 8.2 does not count a second `refresh(layout=True)` before it was idle."""
    app = Stage("")
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        app.shown.write("one\n\n")
        app.query_one(VerticalScroll)._clear_arrangement_cache()  # as when another widget asks for it
        app.screen._refresh_layout()
        app.shown.write("two\n\n")
        await pilot.pause(0.1)
        assert app.shown.size.height == 3
