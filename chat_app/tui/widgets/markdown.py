"""Markdown of a reply: links are never opened, HTML stays text, and no picture is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from textual.widgets import Markdown

from chat_app.text.sanitize import clean
from chat_app.tui.widgets.markdown_messages import LinkShown


def make_parser() -> MarkdownIt:
    """GitHub's flavour, without HTML blocks; plain addresses are not turned into links (that costs a scan
    of the whole paragraph at every update)."""
    parser = MarkdownIt("gfm-like", {"linkify": False, "html": False})
    parser.core.ruler.push("inert", _make_inert)  # the last rule: entities are decoded by then
    return parser


def _make_inert(state: StateCore) -> None:
    """An entity (`&#x202e;`) passes `clean` as text and becomes the character only in the parser."""
    _clean_tokens(state.tokens)


def _clean_tokens(tokens: Iterable[Token]) -> None:
    for token in tokens:
        token.content = clean(token.content)
        token.info = clean(token.info)
        for name, value in token.attrs.items():
            if isinstance(value, str):
                token.attrs[name] = clean(value)
        _clean_tokens(token.children or ())


class ReplyMarkdown(Markdown):
    """A model's words. A click on a link says where it leads and goes nowhere."""

    def __init__(self, text: str) -> None:
        super().__init__(text, parser_factory=make_parser, open_links=False)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(LinkShown(clean(event.href)))
