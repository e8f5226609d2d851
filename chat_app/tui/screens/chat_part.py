"""The chat screen's layout, and the small things that its other parts share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.messages import Prune
from textual.screen import Screen
from textual.widgets import Static

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.chat.view import Severity
from chat_app.text import formatting
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean
from chat_app.tui import clipboard
from chat_app.tui.widgets.key_bar import BUSY_KEYS, MESSAGE_KEYS, PROMPT_KEYS, KeyBar
from chat_app.tui.widgets.message_list import MessageList
from chat_app.tui.widgets.message_view import MessageView
from chat_app.tui.widgets.metrics_panel import MetricsPanel, one_line
from chat_app.tui.widgets.prompt import PromptArea
from chat_app.tui.widgets.status import Banner, Offers, QueueLine, TitleBar, Welcome

if TYPE_CHECKING:
    from chat_app.tui.app import LlamaChatApp

PANEL_MODES = ("full", "line", "hidden")
Job = Callable[[], Awaitable[Any]]


class ChatPart(Screen[None]):
    """Base of the chat screen. Drawing that takes several steps is queued with `later`, in order."""

    app: LlamaChatApp

    def __init__(self, app: LlamaChatApp) -> None:
        super().__init__(id="chat")
        self._owner = app
        self.prompts = app.prompts
        self.editing: str | None = None  # the message that Enter sends in other words
        self.panel_mode = app.panel_mode
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.session: ChatController

    def compose(self) -> ComposeResult:
        yield TitleBar(id="title-bar")
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield Banner(id="banner")
                yield Welcome(id="welcome")
                yield MessageList(self._make_view, id="messages")
                yield Static("", id="new-text")
                yield QueueLine(id="queue")
                yield Static("", id="metrics-line")
                yield Offers(id="offers")
                yield PromptArea(self.send_prompt, id="prompt", keymap=self._owner.settings.keymap)
            yield MetricsPanel(id="panel", clock=self._owner.clock)
        yield KeyBar(id="key-bar")

    @on(Prune)
    def end_work(self) -> None:
        """The app ends, and with it this screen: no work may come back to widgets that are no more (see
        `Dialog.end_work`), the app's own neither."""
        self.workers.cancel_all()

    def send_prompt(self, text: str) -> None:
        """Enter was pressed on a text, which has left the box."""
        raise NotImplementedError

    @property
    def prompt(self) -> PromptArea:
        return self.query_one("#prompt", PromptArea)

    @property
    def messages(self) -> MessageList:
        return self.query_one("#messages", MessageList)

    # Work that takes a while.

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work beside the screen. Whatever goes wrong in it is told; it never ends the app."""
        self.run_worker(self.guarded(work), group="session")

    async def guarded(self, work: Awaitable[Any]) -> None:
        """Wait for work that may fail without harm to anything else."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - told and logged; a cancellation passes
            self.report(error)

    def report(self, error: Exception) -> None:
        """Tell and log an error that nobody expected."""
        logging.getLogger(__name__).error("work of the chat screen failed", exc_info=error)
        self.note(describe_error(error), "error")

    def later(self, job: Job) -> None:
        self._jobs.put_nowait(job)

    async def draw_in_order(self) -> None:
        while True:
            await self.guarded((await self._jobs.get())())

    # Words to the user.

    def note(self, text: str, severity: Severity = "information") -> None:
        self.app.notify(clean(text), severity=severity, markup=False)

    def copy(self, text: str) -> None:
        self.note(clipboard.copy(text, self.app.copy_to_clipboard))

    # The prompt box.

    def begin_edit(self, message_id: str) -> None:
        """Put a message into the prompt box; Enter then makes a branch."""
        self.keep_prompt()
        self.editing = message_id
        self.prompt.set_text(self.session.conversation.get(message_id).content)
        self.prompt.border_title = "Editing · Enter makes a branch · Esc leaves"
        self.prompt.focus()

    def end_edit(self) -> bool:
        """Leave editing; False where nothing was edited."""
        if self.editing is None:
            return False
        self.editing = None
        self.prompt.border_title = ""
        self.prompt.clear()
        return True

    def keep_prompt(self) -> None:
        """What is being typed can be recalled with Up."""
        text = self.prompt.text
        if text.strip() and self.editing is None:
            self.prompts.prompts.append(text)

    # Views of messages.

    def _make_view(self, message: Message) -> MessageView:
        reply = self.session.reply
        growing = reply is not None and reply.message.id == message.id
        return MessageView(
            message, place=self._place(message.id), growing=growing, saved=not self.is_unsaved(message.id)
        )

    def _place(self, message_id: str) -> tuple[int, int]:
        conversation = self.session.conversation
        if message_id not in conversation:
            return 1, 1
        siblings = [one.id for one in conversation.siblings(message_id)]
        return siblings.index(message_id) + 1, len(siblings)

    def is_unsaved(self, message_id: str) -> bool:
        return any(one.id == message_id for one in self.session.chat.unsaved)

    async def refresh_views(self) -> None:
        """Branch counts and "not saved" marks."""
        unsaved = {one.id for one in self.session.chat.unsaved}
        cut = self.session.cut
        for view in self.messages.views():
            view.set_cut(view.message.id == cut)
            view.set_place(self._place(view.message.id))
            view.set_saved(view.message.id not in unsaved)

    # The panel, the footer, the hint.

    def show_panel_mode(self) -> None:
        for mode in PANEL_MODES:
            self.set_class(mode == self.panel_mode, f"-panel-{mode}")

    def show_metrics(self) -> None:
        if self.panel_mode == "hidden":
            return
        shot = self.session.metrics.snapshot()
        if self.panel_mode == "full" and self.has_class("-wide"):
            self.query_one("#panel", MetricsPanel).show(shot, self._segments())
        else:
            line = self.query_one("#metrics-line", Static)
            line.update(one_line(shot, max(20, self.size.width - 4)))

    def _segments(self) -> list[tuple[str, int]]:
        """Whose tokens the context holds, the growing reply included."""
        path, reply = self.session.path(), self.session.reply
        if reply is None:
            return formatting.segments(path)
        found = formatting.segments(one for one in path if one.id != reply.message.id)
        before, own = reply.segment()
        known = sum(count for _, count in found)
        return [*found, ("user", before - known), ("assistant", own)] if before >= known else found

    def show_keys(self) -> None:
        if isinstance(self.focused, MessageView):
            keys = MESSAGE_KEYS
        else:
            keys = BUSY_KEYS if self.session.generating else PROMPT_KEYS
        self.query_one("#key-bar", KeyBar).show_keys(keys)

    def show_new_text(self, visible: bool) -> None:
        hint = self.query_one("#new-text", Static)
        if hint.display != visible:
            hint.display = visible
            hint.update(Content("▼ new text below (Ctrl+End)"))
