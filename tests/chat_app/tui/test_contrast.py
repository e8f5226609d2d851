"""Every word on the screen can be read in every theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.contrast import READABLE, contrast, is_text, readable
from chat_app.tui.themes import DARK, LIGHT
from tests.support.luck import SEED

MakeApp = Callable[..., Any]


def faint(app: Any) -> list[str]:
    """The texts on the screen whose colours are known and too near to each other."""
    found = []
    for strip in app.screen._compositor.render_strips():
        for text, style, _ in strip:
            if style is None or not is_text(text) or not style.color or not style.bgcolor:
                continue
            colours = style.color.triplet, style.bgcolor.triplet
            if None not in colours and contrast(*colours) < READABLE:
                found.append(f"{app.theme}: {text!r} {contrast(*colours):.2f}")
    return found


async def test_all_text_in_all_themes(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(140, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("`one` *two* [three](x)")
        user.chat.note("A note.", "warning")
        await user.press("slash")
        for theme in sorted(user.app.available_themes):
            user.app.theme = theme
            await pilot.pause()
            assert faint(user.app) == []
        user.chat.prompt.clear()
        await user.press("ctrl+r")
        await user.until(lambda: "1 chat" in user.screen_text())
        for theme in (DARK, LIGHT, "textual-light", "solarized-light"):
            user.app.theme = theme
            await pilot.pause()
            assert faint(user.app) == []


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x77, 0x77, 0x77), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)  # the known case
    assert contrast((9, 9, 9), (9, 9, 9)) == 1


def test_what_is_readable_stays_and_the_rest_becomes_so() -> None:
    from random import Random

    luck = Random(SEED)
    for _ in range(300):
        text, behind = [tuple(luck.randrange(256) for _ in range(3)) for _ in range(2)]
        found = readable(text, behind)
        assert contrast(found, behind) >= READABLE
        assert (found == text) == (contrast(text, behind) >= READABLE)
