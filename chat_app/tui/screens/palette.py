"""The command palette: what the app can do, the chats there are, the models there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.tui.app import LlamaChatApp

DISCOVERED = 5


def system_commands(app: LlamaChatApp) -> Iterable[SystemCommand]:
    """Everything that has no argument."""
    chat = app.chat

    def typed(line: str) -> Callable[[], None]:
        return lambda: chat.spawn(chat.run_command(line))

    entries: list[tuple[str, str, Callable[[], object]]] = [
        ("New chat", "Start anew; this chat stays in the history", chat.action_new_chat),
        ("Chats", "Open, continue, or delete a chat", app.show_history),
        ("Reset the KV cache", "The transcript stays; the next prompt is computed anew", chat.action_reset),
        ("Regenerate", "Draw the last reply again, beside the old one", typed("/regen")),
        ("Continue the reply", "Go on where the last reply ended", typed("/continue")),
        ("Inspect tokens", "Probability and alternatives of each token", typed("/inspect")),
        ("Model", "Switch to another model", app.choose_model),
        ("Settings", "Parameters and system prompt", app.action_settings),
        ("Theme", "Change the colours", app.search_themes),
        ("Panel", "Full, one line, or hidden", chat.action_panel),
        ("Copy the last reply", "To the clipboard", typed("/copy")),
        ("Export as Markdown", "Write this chat to a file", typed("/export")),
        ("Screenshot", "Save the screen as SVG", typed("/export .svg")),
        ("Model information", "File, shapes, backend", typed("/show info")),
        ("Keys and commands", "All of them", app.action_help),
        ("Suspend", "Back to the shell; fg returns", app.action_suspend_process),
        ("Quit", "Leave; the chat can be resumed", app.leave),
    ]
    for title, text, run in entries:
        yield SystemCommand(title, text, run)


class ChatProvider(Provider):
    """Past chats by title, and models by name. Titles are outside text, so no markup is read in them."""

    async def startup(self) -> None:
        from chat_app.models.catalogue import local_models

        app: LlamaChatApp = self.app  # type: ignore[assignment]
        found: list[tuple[str, str, Callable[[], object]]] = []
        for chat in await asyncio.to_thread(app.store.list):
            title = clean_line(chat.title, 60) or chat.id
            found.append((f"Chat: {title}", f"{chat.message_count} messages", partial(app.resume, chat.id)))
        self._n_chats = len(found)
        for model in await asyncio.to_thread(local_models):
            name = clean_line(model.name, 60)
            found.append((f"Model: {name}", "Switch to this model", partial(app.find_model, model.name)))
        self._entries = found

    async def discover(self) -> Hits:
        shown = [*self._entries[:DISCOVERED], *self._entries[max(DISCOVERED, self._n_chats) :]]
        for title, text, run in shown:
            yield DiscoveryHit(Content(title), run, text=title, help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, text, run in self._entries:
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, Content(title), run, text=title, help=text)
