"""The rules that are kept are those that Textual makes, and each text is parsed once."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest
from textual.css import stylesheet as textual_sheets
from textual.css.stylesheet import Stylesheet, StylesheetParseError

from chat_app.tui import stylesheet
from chat_app.tui.stylesheet import ParsedOnce

MakeApp = Callable[..., Any]


def rules(sheet: Stylesheet) -> list[str]:
    """All that a stylesheet says."""
    return [
        f"{one.selectors} {one.is_default_rules} {one.tie_breaker} {one.styles.get_rules()}"
        for one in sheet.rules
    ]


def rules_of_textual(app: Any) -> list[str]:
    """What Textual's own stylesheet makes of the same texts."""
    own = Stylesheet(variables=app.get_css_variables())
    for read_from, (css, is_default, tie_breaker, scope) in app.stylesheet.source.items():
        own.add_source(css, read_from, is_default, tie_breaker, scope)
    return rules(own)


async def test_each_text_is_parsed_once_for_a_theme(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stylesheet._parsed.cache_clear()
    parsed: collections.Counter[tuple[Any, ...]] = collections.Counter()

    def counted(scope: str, css: str, read_from: Any, **given: Any) -> Any:
        parsed[read_from, css, scope, given["tie_breaker"]] += 1
        return parse(scope, css, read_from, **given)

    parse = textual_sheets.parse
    monkeypatch.setattr(textual_sheets, "parse", counted)
    app = make_app(theme="llama-light")
    async with app.run_test() as pilot:
        await drive(pilot).ready()
        assert set(parsed.values()) == {1}
        assert rules(app.stylesheet) == rules_of_textual(app)


async def test_another_theme_has_its_own_rules(make_app: MakeApp, drive: Any) -> None:
    app = make_app(theme="llama-light")
    async with app.run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        for theme in ("llama-dark", "llama-light"):
            background = app.chat.prompt.styles.background
            app.theme = theme
            await user.until(lambda: app.chat.prompt.styles.background != background)  # noqa: B023
            assert rules(app.stylesheet) == rules_of_textual(app)


def test_what_cannot_be_parsed_leaves_the_rules_before() -> None:
    sheet = ParsedOnce(variables={"own": "red"})
    sheet.add_source("Label { color: $own; }", ("a", ""))
    before = rules(sheet)
    sheet.add_source("Label { color: nosuchcolour; }", ("b", ""))
    with pytest.raises(StylesheetParseError):
        sheet.reparse()
    del sheet.source["b", ""]
    sheet.reparse()
    assert rules(sheet) == before
    sheet.set_variables({"own": "green"})
    sheet.reparse()
    assert rules(sheet) != before
