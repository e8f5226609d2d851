"""Replies tinted by how probable their words were: a key in the chat itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.widgets.messages.tint import LEGEND, SHADES, TintedText, character_at, tint
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
REPLY = "It is **so** [dim] here\n\n- and\n- there"


def shades(view: Any) -> dict[str, str]:
    """The styles of a message's tinted text, by the text that has them."""
    content = view.query_one(TintedText).content
    return {content.plain[span.start : span.end]: str(span.style) for span in content.spans if span.style}


@pytest.mark.parametrize(
    ("probability", "name"),
    [(1.0, "plain"), (0.9001, "plain"), (0.6, "green"), (0.2, "amber"), (0.05, "red")],
)
def test_a_shade_by_probability(probability: float, name: str) -> None:
    assert tint(math.log(probability)) == next(style for _, other, style in SHADES if other == name)


def test_what_is_unknown_has_no_shade() -> None:
    assert tint(math.nan) == tint(None) == ""
    assert tint(-math.inf) == SHADES[-1][2]
    assert LEGEND == "plain from 90%, green from 50%, amber from 10%, red below 10%"


def test_which_character_stands_in_a_cell() -> None:
    text = "日本 is\nfar away"
    found = [
        "".join(text[at] if at >= 0 else "." for x in range(9) for at in [character_at(text, 8, x, y)])
        for y in range(3)
    ]
    assert found == ["日日本本 is..", "far away.", "." * 9]
    assert [character_at("aa bb", 3, x, 1) for x in range(3)] == [3, 4, -1]
    assert character_at("", 5, 0, 0) == character_at("a", 0, 0, 1) == -1


async def test_a_key_tints_and_untints(make_app: MakeApp, engine: FakeEngine, drive: Any) -> None:
    engine.script = lambda turns: REPLY
    engine.logprobs = (-0.01, -0.5, -1.5, -4.0)
    async with make_app().run_test(size=(80, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("alt+p")
        assert "No reply" in user.notices()[-1]
        await user.say("why?")
        assert "• and" in user.screen_text()
        await user.press("alt+p")
        await user.ready()
        assert "Tinted by probability" in user.notices()[-1]
        assert "It is **so** [dim] here" in user.screen_text()
        view = pilot.app.chat.messages.views()[-1]
        assert shades(view)[" is"] == SHADES[1][2]
        assert shades(view)[" **so**"] == SHADES[2][2]
        assert shades(view)[" [dim]"] == SHADES[3][2]
        # The next reply is tinted when it is whole.
        await user.say("and why?")
        await user.ready()
        assert len(shades(pilot.app.chat.messages.views()[-1])) > 2
        await user.press("alt+p")
        await user.ready()
        assert "• and" in user.screen_text()
        assert "**" not in user.screen_text()


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("theme", ["llama-dark", "llama-light"])
def test_pictures(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, until: Any, asked: Any, width: int, theme: str
) -> None:
    """A reply with all four shades, and what they mean."""
    engine.script = lambda turns: REPLY
    engine.logprobs = (-0.01, -0.5, -1.5, -4.0)

    async def before(pilot: Any) -> None:
        app = pilot.app
        await asked(pilot, "why?")
        await pilot.press("alt+p")
        await until(pilot, lambda: app.chat.messages.views()[-1].query_one(TintedText).display)

    assert snap_compare(make_app(theme=theme), run_before=before, terminal_size=(width, 30))
