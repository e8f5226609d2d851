"""The chat: draws what the session says (it is its `ChatView`) and drains the engine's news."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message as TextualMessage

from chat_app.chat.commands import ScreenHost
from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.engines.base import Prompt
from chat_app.text import formatting
from chat_app.tui.command_host import CommandHost
from chat_app.tui.screens.chat_input import ChatInput
from chat_app.tui.widgets.status import Banner, QueueLine, TitleBar, Welcome
from llama_core.events import Event

if TYPE_CHECKING:
    from chat_app.tui.app import LlamaChatApp

TICK_S = 0.04
PANEL_PERIOD_S = 0.12
MAX_REST_S = 0.5
PANEL_HELP = "The live panel: full, one line, hidden"


class EngineNews(TextualMessage, bubble=False):
    """Records wait in the engine's host: take them. Several of these in a row are as good as one."""

    def can_replace(self, message: TextualMessage) -> bool:
        return isinstance(message, EngineNews)


class ChatScreen(ChatInput):
    """The screen the app starts with, and its only one that is always there."""

    AUTO_FOCUS = "#prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares it so
    VERTICAL_BREAKPOINTS = [(0, "-short"), (38, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="Stop; what is written stays"),
        Binding("ctrl+c", "interrupt", "Copy, stop or quit", id="chat.interrupt", priority=True),
        Binding("ctrl+n", "new_chat", "New", id="chat.new", priority=True, tooltip="New chat"),
        Binding("ctrl+r", "history", "Chats", id="chat.history", priority=True, tooltip="All chats"),
        Binding(
            "ctrl+l",
            "reset",
            "Reset",
            id="chat.reset",
            priority=True,
            tooltip="Empty the KV cache; the transcript stays",
        ),
        Binding("ctrl+o", "panel", "Panel", id="chat.panel", priority=True, tooltip=PANEL_HELP),
        Binding("ctrl+g", "editor", "Prompt in $EDITOR", id="chat.editor", priority=True),
        Binding("alt+up", "select(-1)", "Select", id="chat.select_previous", priority=True),
        Binding("alt+down", "select(1)", "Next message", id="chat.select_next", priority=True),
        Binding("pageup", "page(-1)", "Scroll up", id="chat.page_up", priority=True),
        Binding("pagedown", "page(1)", "Scroll down", id="chat.page_down", priority=True),
        Binding("ctrl+end", "to_end", "To the newest text", id="chat.to_end", priority=True),
    ]

    def __init__(self, app: LlamaChatApp) -> None:
        super().__init__(app)
        self.session = ChatController(self, app.host, app.settings, app.store, self.spawn, app.clock)
        self.host: ScreenHost = CommandHost(app, self)
        self._panel_due = 0.0
        self._told_to_wait = False
        self._drawing = False
        self._draw_began = self._drain_due = 0.0

    def on_mount(self) -> None:
        self._tick_timer = self.set_interval(TICK_S, self._tick, pause=True)
        self.show_panel_mode()
        self.show_state()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint: everything that may take a moment."""
        if not self.app.is_running:
            return  # it ended before that, and has nothing left to begin with
        self.run_worker(self.draw_in_order(), group="drawing")
        self.watch(self, "focused", self._focus_moved, init=False)
        self.show_keys()
        if self.app.first_chat is None:  # else its own draft comes with it
            self.load_draft()
        self.app.begin()

    def _focus_moved(self) -> None:
        self.call_after_refresh(self.show_keys)

    # ChatView.

    def show_chat(self) -> None:
        if self.editing is not None and self.editing not in self.session.conversation:
            self.editing = None  # another chat; what was typed stays, as an ordinary prompt
            self.prompt.border_title = ""
        self.load_draft()
        path = self.session.path()
        self.later(lambda: self.messages.show_path(path))
        self.later(self.refresh_views)
        self.show_state()

    def show_message(self, message: Message) -> None:
        self.later(lambda: self.messages.add(message))
        self.later(self.refresh_views)
        if message.role == "user":
            self.messages.anchor()
        self.show_state()

    def update_message(self, message: Message) -> None:
        async def settle() -> None:
            view = self.messages.view_of(message.id)
            if view is not None:
                await view.settle(message, saved=not self.is_unsaved(message.id))

        self.later(settle)
        self.later(self.refresh_views)

    def add_text(self, message_id: str, text: str) -> None:
        async def add() -> None:
            view = self.messages.view_of(message_id)
            if view is not None:
                await view.add_text(text)

        self.later(add)
        if not self.messages.following:
            self.show_new_text(True)

    def show_event(self, event: Event) -> None:
        """The panel shows the events, and what counts of them is in the metrics."""

    def show_queue(self, prompts: list[str]) -> None:
        reason = "the model is loaded" if self.session.info is None else "the reply is done"
        self.query_one("#queue", QueueLine).show(prompts, reason)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        """A prompt waits for a model that nobody is loading: say once how to get one."""
        session = self.session
        if not session.queue or session.info is not None or session.loading is not None:
            self._told_to_wait = False
        elif not self._told_to_wait and not self.app.looks_for_model:
            self._told_to_wait = True
            self.note(
                "Your prompt waits: there is no model. /model fetches one or opens a file that you have.",
                "warning",
            )

    def show_trouble(self, text: str | None) -> None:
        self.query_one("#banner", Banner).show(text, "/save tries again")
        self.later(self.refresh_views)

    def show_load_failure(self, path: Path, text: str) -> None:
        self.app.model_failed(path, text)

    async def ask_overflow(self, prompt: Prompt) -> bool:
        from chat_app.tui.screens.overflow import OverflowScreen

        agreed = await self.app.push_screen_wait(OverflowScreen(prompt))
        return agreed is True

    def show_state(self) -> None:
        """Title, welcome, footer; and whether the queue is drained on a timer."""
        if not self.is_mounted:
            return
        session, info = self.session, self.session.info
        model = info.name if info else (session.loading or Path(session.settings.model)).name
        state, style = self._state()
        self.query_one("#title-bar", TitleBar).show(session.conversation.title, model, state, style)
        empty = not session.path()
        self.query_one("#welcome", Welcome).display = empty
        self.messages.display = not empty
        if empty:
            self.query_one("#welcome", Welcome).show(info, self.app.model_state(state))
        if session.generating or session.loading is not None:
            self._tick_timer.resume()
        self._tell_waiting()
        self.show_metrics()
        self.show_keys()

    def _state(self) -> tuple[str, str]:
        session = self.session
        if session.loading is not None:
            shot = session.metrics.snapshot()
            return formatting.load_label(shot.load_stage, shot.load_fraction), "$text-warning"
        if session.info is None:
            return "no model", "$text-error"
        return ("writing", "$text-accent") if session.generating else ("ready", "$text-success")

    # The engine's news.

    async def on_engine_news(self, _: EngineNews) -> None:
        await self._drain()

    async def _tick(self) -> None:
        """Drain, unless the last drawing was so slow that keys would have to wait for the next one."""
        now = self.app.clock()
        if now < self._drain_due or (self._drawing and now < self._draw_began + MAX_REST_S):
            return
        self._drawing = True
        self._draw_began = now
        await self._drain()
        self.later(self._when_drawn)
        if self.session.loading is not None:
            self.show_state()
        elif not self.session.generating:
            self._tick_timer.pause()

    async def _when_drawn(self) -> None:
        self.call_after_refresh(self._drawn)

    def _drawn(self) -> None:
        """What was drained is on the screen: rest for four times as long as that took."""
        now = self.app.clock()
        self._drain_due = now + min(MAX_REST_S, 4 * (now - self._draw_began))
        self._drawing = False

    async def _drain(self) -> None:
        await self.session.take_news()
        now = self.app.clock()
        if now >= self._panel_due or not self.session.generating:
            self._panel_due = now + PANEL_PERIOD_S
            self.show_metrics()

    # Events.

    def on_message_list_at_end(self) -> None:
        self.show_new_text(False)

    def on_message_list_want_earlier(self) -> None:
        self.later(self.messages.load_earlier)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_state)
