"""Another model: one on this machine, one to fetch, or a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from chat_app.config.endpoints import Endpoint
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.inputs import CleanInput

if TYPE_CHECKING:
    from chat_app.models.listing import Listed


def _row(model: Listed) -> Content:
    """Name, what it is, and whether and how fast it runs here; below, where it is from."""
    outlook = model.outlook
    first = f"begins in {outlook.first_token}" if outlook.first_token else ""
    facts = (model.kind, f"{fmt.mib(model.nbytes)} MiB", model.verdict, outlook.speed)
    runs = not outlook.why and outlook.fits
    return Content.assemble(
        (clean_line(model.name), "bold"),
        (f"  {clean_line(' · '.join(filter(None, facts)))}", "$foreground 60%" if runs else "$text-warning"),
        (f"\n  {clean_line(' · '.join(filter(None, (first, model.about))))}", "$foreground 60%"),
    )


def _remote(name: str, one: Endpoint) -> Content:
    about = f"  remote, {clean_line(one.host)}"
    return Content.assemble((clean_line(name), "bold"), (about, "$foreground 60%"))


class ChooseModelScreen(Dialog[str]):
    """A name or path for `resolve_model`."""

    AUTO_FOCUS = "#models"

    def __init__(self, engines: Mapping[str, Endpoint] | None = None) -> None:
        """engines: servers that config.toml names."""
        super().__init__()
        self._engines = engines or {}
        self._names: list[str] = []

    def compose(self) -> ComposeResult:
        """The models above a box for a path."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content("Choose a model"), classes="dialog-title")
            yield OptionList(id="models")
            yield CleanInput(
                placeholder="or a file, a folder, hf:OWNER/REPO:TYPE, or openai:URL#MODEL", id="model-path"
            )
            yield KeyWords("Enter opens · Tab to the path · {dialog.close} closes")

    def begin(self) -> None:
        """List the models in the background; a path can be typed meanwhile."""
        self.run_worker(self._show_models())  # not waited for: keys wait until a screen is mounted

    async def _show_models(self) -> None:
        from chat_app.models.listing import all_models

        found = await asyncio.to_thread(all_models)
        here = [(model.name, _row(model)) for model in found if model.path is not None]
        elsewhere = [(name, _remote(name, one)) for name, one in self._engines.items()]
        to_fetch = [(model.name, _row(model)) for model in found if model.path is None]
        options = here + elsewhere + to_fetch
        self._names = [name for name, _ in options]
        models = self.query_one("#models", OptionList)
        models.add_options(Option(row) for _, row in options)
        models.highlighted = 0  # so that Enter opens what one sees marked

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the name of the model chosen."""
        self.dismiss(self._names[event.option_index])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with what was typed, unless it is blank."""
        if event.value.strip():
            self.dismiss(event.value.strip())
