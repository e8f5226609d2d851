"""What an empty chat shows in the place of messages."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from chat_app.engines.base import EngineInfo
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line
from chat_app.tui.key_words import with_keys
from chat_app.tui.widgets.prompt import PromptArea
from chat_app.tui.widgets.status import MUTED

LOGO = (
    "   ▗▖▗▖  ",
    "   ▐▛▜▌  ",
    "   ▐██   ",
    "    ██▄▄▄",
    "    █████",
    "    █ █ █",
)


class Welcome(Static, can_focus=False):
    """An empty chat: what this is, what is loaded, and how to begin."""

    def show(self, info: EngineInfo | None, state: str, offer: str = "") -> None:
        """Show the model, or without one (`info` None) the sentence `state`; a better one on offer; and the
        first keys to know."""
        if info is None:
            model: list[str | tuple[str, str]] = [(state, "$text-warning")]
        else:
            size = f" · {fmt.mib(info.file_bytes)} MiB" if info.file_bytes else ""
            context = f" · context {info.ctx_size:,}" if info.ctx_size else ""
            model = [
                (clean_line(info.name), "bold"),
                (f"\n{clean_line(fmt.without_details(info.backend))}{size}{context}", MUTED),
            ]
            if info.host:
                sent = f"\nWhat you say here is sent to {clean_line(info.host)}."
                model.append((sent, "$text-warning"))
            if not info.has_template:
                model.append(
                    ("\nA base model: it has no chat template and continues your text.", "$text-warning")
                )
        hints = (
            ("{prompt.send}", "sends"),
            ("{prompt.newline}", "breaks the line"),
            ("/", "commands"),
            ("{app.help}", "all keys"),
        )
        keys: list[str | tuple[str, str]] = []
        for key, what in hints:
            keys += [
                ("   " if keys else ""),
                (with_keys(self, key, PromptArea), "bold $text-accent"),
                (f" {what}", MUTED),
            ]
        if offer:
            model += [
                "\n\n",
                (with_keys(self, "{app.offer}"), "bold $text-accent"),
                (f" better: {clean_line(offer)}", MUTED),
            ]
        logo = ("\n".join(LOGO), "$primary")
        self.update(Content.assemble(logo, "\n\n", *model, "\n\n", *keys))
