"""Every word on the screen can be read in every theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.contrast import READABLE, Rgb, contrast, is_text, readable
from chat_app.tui.themes import DARK, LIGHT
from tests.support.luck import SEED

MakeApp = Callable[..., Any]


# The sixteen colours of common terminals, as their sources have them.
PALETTES = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 "
    "7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "VGA": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa "
    "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
    "Windows Terminal": "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc "
    "767676 e74856 16c60c f9f1a5 3b78ff b4009e 61d6d6 f2f2f2",
    "GNOME Terminal": "171421 c01c28 26a269 a2734c 12488b a347ba 2aa1b3 d0cfcc "
    "5e5c64 f66151 33d17a e9ad0c 2a7bde c061cb 33c7de ffffff",
}


def faint_in(app: Any, palette: list[Rgb], ground: Rgb, text: Rgb) -> list[str]:
    """The same in a terminal with these colours; ground, text: its default ones."""

    def meant(colour: Any, default: Rgb) -> Rgb:
        if colour is None or colour.is_default:
            return default
        if colour.number is not None:
            return palette[colour.number]
        return tuple(colour.triplet)  # type: ignore[return-value]

    found = []
    for strip in app.screen._compositor.render_strips():
        for words, style, _ in strip:
            if style is not None and is_text(words):
                ratio = contrast(meant(style.color, text), meant(style.bgcolor, ground))
                if ratio < READABLE:
                    found.append(f"{app.theme}: {words!r} {style} {ratio:.2f}")
    return found


def faint(app: Any) -> list[str]:
    """The texts on the screen whose colours are known and too near to each other."""
    if app.current_theme.ansi:
        found = []
        for name, colours in PALETTES.items():
            palette = [tuple(bytes.fromhex(one)) for one in colours.split()]
            black, white = palette[0], palette[15]
            ground, text = (black, palette[7]) if app.current_theme.dark else (white, black)
            found += [f"{name} {one}" for one in faint_in(app, palette, ground, text)]  # type: ignore[arg-type]
        return found
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
        await user.say("`one` *two* [three](x)\n```python\ndef f(x): return 'text', 12  # why\n```")
        user.chat.note("A note.", "warning")
        await user.press("slash")
        for theme in sorted(user.app.available_themes):
            user.app.theme = theme
            await pilot.pause()
            assert faint(user.app) == []
            if user.app.current_theme.ansi:
                (line,) = [one for one in user.screen_text().splitlines() if "You said:" in one]
                assert line.startswith(" " * 4)  # beside a reply there is no bar
        user.chat.prompt.clear()
        await user.press("ctrl+r")
        await user.until(lambda: "1 chat" in user.screen_text())
        for theme in (DARK, LIGHT, "textual-light", "solarized-light", "ansi-dark", "ansi-light"):
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
