"""Markdown of a reply: links are never opened, HTML stays text, and no picture is loaded."""

from __future__ import annotations

from markdown_it import MarkdownIt
from textual.widgets import Markdown

from chat_app.sanitize import clean
from chat_app.widgets.markdown_messages import LinkShown


def make_parser() -> MarkdownIt:
    """GitHub's flavour, without HTML blocks; plain addresses are not turned into links (that costs a scan
    of the whole paragraph at every update)."""
    return MarkdownIt("gfm-like", {"linkify": False, "html": False})


class ReplyMarkdown(Markdown):
    """A model's words. A click on a link says where it leads and goes nowhere."""

    def __init__(self, text: str) -> None:
        super().__init__(text, parser_factory=make_parser, open_links=False)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(LinkShown(clean(event.href)))
