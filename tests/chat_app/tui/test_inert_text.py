"""Outside text that arrives by another door: entities in Markdown, pastes into every box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.events import Paste
from textual.widgets import Input, TextArea

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
CODES = (0x202E, 0x2066, 0xE0041, 0x9B)
ENTITIES = " ".join(f"&#x{code:x};" for code in CODES)
PLACES = {
    "paragraph": f"begin {ENTITIES} end",
    "emphasis": f"begin **{ENTITIES}** end",
    "heading": f"# begin {ENTITIES} end",
    "link": f"begin [{ENTITIES}](http://a.example/{ENTITIES.replace(' ', '')}) end",
    "picture": f'begin ![{ENTITIES}](http://a.example/x "{ENTITIES}") end',
    "table": f"| begin {ENTITIES} |\n|---|\n| {ENTITIES} end |",
    "list": f"- begin {ENTITIES}\n- > {ENTITIES} end",
    "fence": f"```{ENTITIES}\nbegin end\n```",
}
PASTE = "a\x1b[2J\x9b31m\u202eb\U000e0041c"
PASTED = "a[2J31m⟨U+202E⟩b⟨U+E0041⟩c"


def screen_text(app: Any) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def dangerous(text: str) -> list[str]:
    """The characters of `text` that a terminal would obey, or that hide or reorder what a reader sees."""
    ranges = ((0, 0x1F), (0x7F, 0x9F), (0x202A, 0x202E), (0x2066, 0x2069), (0xE0000, 0xE007F))
    return [c for c in text if c != "\n" and any(low <= ord(c) <= high for low, high in ranges)]


@pytest.mark.parametrize("place", PLACES)
async def test_entities_stay_inert(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, place: str
) -> None:
    engine.script = lambda turns: PLACES[place]
    app = make_app(save=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        app.chat.prompt.set_text("go")
        await pilot.press("enter")
        await until(pilot, lambda: "begin" in screen_text(app) and "end" in screen_text(app))
        await ready(pilot)
        assert dangerous(screen_text(app)) == []
        if place not in ("fence", "picture"):
            assert "⟨U+202E⟩" in screen_text(app)
        hrefs = [
            str(style.meta)
            for line in app.screen._compositor.render_strips()
            for _, style, _ in line
            if style
        ]
        assert dangerous("".join(hrefs)) == []


async def opened(app: Any, pilot: Any, until: Any, screen: str) -> list[Any]:
    """A box of each class that a screen has, which is open when this returns."""
    before = app.screen
    match screen:
        case "history":
            app.show_history()
        case "model":
            app.models.choose()
        case "settings":
            app.action_settings()
        case "export":
            from chat_app.tui.screens.export_chat import ExportScreen

            app.push_screen(ExportScreen(app.chat.session.conversation, app.paths.data))
        case "palette":
            app.action_command_palette()
    await until(pilot, lambda: app.screen is not before and app.screen.query("Input"))
    boxes = [one for one in app.screen.query("*") if isinstance(one, Input | TextArea)]
    return list({(type(one), getattr(one, "type", "")): one for one in boxes}.values())


@pytest.mark.parametrize("screen", ["history", "model", "settings", "export", "palette"])
async def test_a_paste_is_inert_in_every_box(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, screen: str
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 50)) as pilot:
        await ready(pilot)
        app.chat.prompt.set_text("go")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.chat.session.conversation) == 2)
        await ready(pilot)
        boxes = await opened(app, pilot, until, screen)
        assert boxes
        for box in boxes:
            box.focus()
            await pilot.pause()
            app.post_message(Paste(PASTE + "\rsecond line"))  # as the terminal's driver does

            def text(box: Any = box) -> str:
                return box.value if isinstance(box, Input) else box.text

            await until(pilot, lambda text=text: "[2J" in text())
            assert PASTED in text()
            assert dangerous(text()) == []
            assert dangerous(screen_text(app)) == []
            if isinstance(box, Input) and "second" not in text():
                assert box.cursor_position == text().index(PASTED) + len(PASTED)
            app.copy_to_clipboard(PASTE)
            box.action_paste()
            await pilot.pause()
            assert dangerous(text()) == []
            if not isinstance(app.screen, CommandPalette):
                if isinstance(box, Input):
                    box.value = PASTE
                else:
                    box.load_text(PASTE)
                await pilot.pause()
                assert text() == PASTED
        assert app.is_running
