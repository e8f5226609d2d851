"""The command palette: what the app can do, the chats there are, the models there are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar, Protocol, cast

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from chat_app.chat.commands import SLASH
from chat_app.store.chats import ChatSummary, StoreError
from chat_app.text.sanitize import clean_line

DISCOVERED = 5


class PaletteHost(Protocol):
    """What the palette asks of the app."""

    def past_chats(self) -> list[ChatSummary]:
        """Raises StoreError."""

    def resume(self, chat_id: str) -> None:
        """Open a past chat."""

    def use_model(self, name: str) -> None:
        """Switch to a model by its name."""


def system_commands(
    run: Callable[[str], object], panel: Callable[[], object], suspend: Callable[[], object]
) -> Iterable[SystemCommand]:
    """The slash commands that have a title here, and what has no command. run: takes a line as typed."""
    for command in SLASH:
        if command.palette:
            yield SystemCommand(command.palette, command.help, partial(run, command.name))
    yield SystemCommand("Panel", "The live numbers: a line, a card, a lab, hidden", panel)
    yield SystemCommand("Screenshot", "Save the screen as SVG", partial(run, "/export .svg"))
    yield SystemCommand("Suspend", "Back to the shell; fg returns", suspend)


class Palette(CommandPalette):
    """Textual's, which Ctrl+C closes too: what is not in sight below stays as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "app.pop_screen", "Close", show=False, priority=True)
    ]


class ChatProvider(Provider):
    """Past chats by title, and models by name. Titles are outside text, so no markup is read in them."""

    async def startup(self) -> None:
        """Read the chats and models once, while the palette opens."""
        from chat_app.models.catalogue import local_models

        host = cast(PaletteHost, self.app)
        found: list[tuple[str, str, Callable[[], object]]] = []
        chats: list[ChatSummary] = []
        with contextlib.suppress(StoreError):  # the list of chats says what is wrong
            chats = await asyncio.to_thread(host.past_chats)
        for chat in chats:
            title = clean_line(chat.title, 60) or chat.id
            found.append((f"Chat: {title}", f"{chat.message_count} messages", partial(host.resume, chat.id)))
        self._n_chats = len(found)
        for model in await asyncio.to_thread(local_models):
            name = clean_line(model.name, 60)
            found.append((f"Model: {name}", "Switch to this model", partial(host.use_model, model.name)))
        self._entries = found

    async def discover(self) -> Hits:
        """What an empty palette shows: some of the newest chats, and some models."""
        shown = [*self._entries[:DISCOVERED], *self._entries[max(DISCOVERED, self._n_chats) :]]
        for title, text, run in shown:
            yield DiscoveryHit(Content(title), run, text=title, help=text)

    async def search(self, query: str) -> Hits:
        """Chats and models whose name matches, with a score each."""
        matcher = self.matcher(query)
        for title, text, run in self._entries:
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, Content(title), run, text=title, help=text)
