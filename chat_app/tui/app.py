"""The Textual app: screens, themes, bindings, the start and the end. How a reply is made is elsewhere."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.content import Content
from textual.screen import Screen
from textual.theme import Theme

from chat_app.chat.controller import ChatController
from chat_app.chat.recall import EVERYTHING, resumed
from chat_app.chat.view import Severity
from chat_app.config.key_names import BINDING_IDS
from chat_app.config.paths import Paths, get_paths
from chat_app.config.settings import Settings
from chat_app.engines.base import OpenEngine, Source
from chat_app.engines.host import EngineHost
from chat_app.engines.sources import open_engine
from chat_app.store.chats import ChatStore, ChatSummary, StoreError, open_store
from chat_app.store.prompts import Drafts, PromptHistory
from chat_app.text.sanitize import clean_line
from chat_app.tui.command_host import CommandHost
from chat_app.tui.drain import EngineNews
from chat_app.tui.keymap import keymap_faults
from chat_app.tui.model_choice import CheckModel, FindOffer, ModelChoice, check_file, find_best_offer
from chat_app.tui.news import News
from chat_app.tui.screens.chat import ChatScreen
from chat_app.tui.stylesheet import ParsedOnce
from chat_app.tui.terminal.app import TerminalApp
from chat_app.tui.terminal.background import BackgroundTold
from chat_app.tui.terminal.title import sequence
from chat_app.tui.textual_private import driver_of
from chat_app.tui.themes import DARK, LIGHT, THEMES
from chat_app.tui.ui_state import read_ui_state, write_ui_state
from chat_app.tui.widgets.prompt import PromptArea

if TYPE_CHECKING:
    from chat_app.chat.comparing.comparison import Comparison
    from chat_app.tui.screens.help import KeyGroups


def _providers() -> type[Provider]:
    from chat_app.tui.screens.palette import ChatProvider

    return ChatProvider


class LlamaChatApp(TerminalApp):
    """Everything it depends on can be given, for tests: where files are, the engine's maker, the clock."""

    TITLE = "llama-chat"
    CSS_PATH = "app.tcss"
    COMMANDS: ClassVar[set[Callable[[], type[Provider]] | type[Provider]]] = App.COMMANDS | {_providers}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", id="app.help", priority=True),
        Binding("f2", "settings", "Settings", id="app.settings", priority=True),
        Binding("f3", "offer", "Use the model on offer", id="app.offer", show=False),
        Binding("ctrl+p", "command_palette", "Commands", id="app.palette", priority=True),
        Binding("ctrl+q", "leave", "Quit", id="app.quit", priority=True),
    ]

    def __init__(
        self,
        settings: Settings,
        *,
        store: ChatStore | None = None,
        open_engine: OpenEngine = open_engine,
        check_model: CheckModel = check_file,
        find_offer: FindOffer = find_best_offer,
        clock: Callable[[], float] = time.monotonic,
        paths: Paths | None = None,
        prompt: str | None = None,
        chat_id: str | None = None,
        chooses_chat: bool = False,
        files: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.paths = paths or get_paths()
        self.store = store or open_store(self.paths)
        self.clock = clock
        self.prompts = PromptHistory(self.store.database, save=settings.save)
        self.drafts = Drafts(self.store.database, save=settings.save)
        self.first_prompt = prompt
        self.first_chat = chat_id
        self._chooses_chat = chooses_chat
        self.first_files = files
        self._ui_file = self.paths.state / "ui.json"
        self._ui_state = read_ui_state(self._ui_file)
        self.host = EngineHost(self._wake, open_engine, clock=clock)
        self._check_model = check_model
        self._find_offer = find_offer
        super().__init__()
        self._window_title = self._suits_terminal = ""
        self.news = News(lambda: self.screen_stack, self.set_timer)
        for theme in THEMES:
            self.register_theme(theme)
        chosen = settings.theme or self._ui_state.get("theme")
        self._asks_background = chosen is None
        wanted = chosen or DARK
        self.theme = wanted if wanted in self.available_themes else DARK
        self._unknown_theme = "" if wanted in self.available_themes else wanted
        self.stylesheet = ParsedOnce(variables=self.get_css_variables())
        self.chat: ChatScreen
        self.models: ModelChoice

    def get_default_screen(self) -> Screen[None]:
        """The chat screen; what chooses its model is made with it."""
        self.chat = ChatScreen(
            self,
            lambda view, spawn: ChatController(view, self.host, self.settings, self.store, spawn, self.clock),
            lambda screen: CommandHost(self, screen),
            history=self.prompts,
            drafts=self.drafts,
            clock=self.clock,
            keymap=self.settings.keymap,
            panel_mode=self.settings.panel or self._ui_state.get("panel", ""),
            has_first_chat=self.first_chat is not None,
        )
        chat = self.chat
        self.models = ModelChoice(
            self,
            chat.session,
            chat.work,
            chat.show_state,
            chat.fetch_row,
            self._check_model,
            self._find_offer,
        )
        return self.chat

    def on_mount(self) -> None:
        """Put the user's keys in place of the bindings' own."""
        if self.settings.keymap:
            self.set_keymap(dict(self.settings.keymap))

    def begin(self) -> None:
        """Called by the chat screen after its first paint."""
        gc.enable()
        gc.freeze()  # what the start made stays; later collections need not look at it
        for notice in self.settings.notices:
            self.chat.note(notice, "warning")
        together = (self.BINDINGS, ChatScreen.BINDINGS, PromptArea.BINDINGS)
        for fault in keymap_faults(self.settings.keymap, together, BINDING_IDS):
            self.chat.note(fault, "warning")
        if self._unknown_theme:
            self.chat.note(f"There is no theme {self._unknown_theme!r}; using {self.theme}.", "warning")
        if self._asks_background:
            self.ask_background()
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        self.models.find(self.settings.model)
        self.chat.work.spawn(self._open_first())
        if self._chooses_chat:
            self.show_history()

    async def _open_first(self) -> None:
        if self.first_chat is not None:
            try:
                await self.chat.session.open_chat(self.first_chat, chosen=EVERYTHING)
            except StoreError as error:
                self.chat.note(str(error), "error")
        if self.first_prompt:
            self.chat.session.submit(self.first_prompt, files=self.first_files)
        elif self.first_files:
            self.chat.composer.mention(self.first_files)

    def _wake(self) -> None:
        """Called on the engine's thread."""
        self.chat.post_message(EngineNews())

    # The terminal: its colours, its window.

    def on_background_told(self, message: BackgroundTold) -> None:
        """Nobody chose a theme: the one that suits the terminal, this time."""
        if self._asks_background:
            self._suits_terminal = LIGHT if message.is_light else DARK
            self.theme = self._suits_terminal

    def _theme_changed(self, theme: Theme) -> None:
        """What the user chose is kept for the next start, and what suits the terminal is not."""
        if theme.name != self._suits_terminal:
            self._asks_background = False
            self.remember(theme=theme.name)

    def name_window(self, title: str) -> None:
        """Give the window this title, unless it has it."""
        driver = driver_of(self)
        if driver is not None and title != self._window_title:
            self._window_title = title
            driver.write(sequence(title))

    def reply_done(self) -> None:
        """Ring the terminal's bell, where the user wants that."""
        if self.settings.bell:
            self.bell()

    # News.

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence in the status row of the screen on top."""
        self.news.say(text, severity)

    def on_news_wanted(self) -> None:
        """Another screen came on top: what is said is to be seen there."""
        self.news.draw()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: Severity = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """What a widget, Textual's own too, has to say goes where all news go: a toast would cover the last
        line of a reply, the prompt, or a dialog's hints. May be called on any thread."""
        said = Content.from_markup(message).plain if markup else message
        self.call_later(self.news.say, f"{title}: {said}" if title else said, severity)

    def remember(self, **values: str) -> None:
        """Keep a choice for the next start."""
        self._ui_state.update(values)
        state = dict(self._ui_state)
        self.run_worker(asyncio.to_thread(write_ui_state, self._ui_file, state), group="ui-state")

    # What the chat screen asks of models.

    @property
    def offer(self) -> str:
        """A better model for this machine than the one loaded, in a line; empty where there is none."""
        found = self.models.offer
        return found.text if found else ""

    def action_offer(self) -> None:
        """Use the model that the welcome offers."""
        self.models.take_offer()

    def model_state(self, state: str) -> str:
        """What an empty chat says while no model is loaded."""
        return self.models.state(state)

    def tell_waiting(self) -> None:
        """Say how to get the model that a prompt waits for."""
        self.models.tell_waiting()

    def model_failed(self, source: Source, text: str, instead: Source | None) -> None:
        """Say why a model could not be loaded, and what is loaded instead or how another is chosen."""
        self.models.failed(source, text, instead)

    # The end.

    def after_typing(self, act: Callable[[], object]) -> None:
        """Do something once the prompt has taken in the keys that were pressed before."""
        if self.chat.is_mounted:
            self.chat.prompt.call_later(act)
        else:
            act()

    def action_leave(self) -> None:
        """End the app, after the keys pressed before."""
        self.after_typing(self.leave)

    async def action_quit(self) -> None:
        """Textual's own way to quit ends here too, so that everything is saved."""
        self.action_leave()

    def action_help_quit(self) -> None:
        """Ctrl+C on a screen other than the chat."""
        self.chat.action_interrupt()

    def leave(self) -> None:
        """Save what there is and end. The engine's thread is not waited for longer than a moment."""
        self.save_all()
        self.exit(0)

    def save_all(self) -> None:
        """Write the draft and the reply under way, on this thread."""
        self.chat.composer.keep_draft()
        self.chat.session.save_now()

    # Screens.

    def action_help(self) -> None:
        """Open the help, unless it is open."""
        from chat_app.tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(key_groups(), self.settings.keymap))

    def action_settings(self) -> None:
        """Open the settings; what is changed there counts from the next reply on."""
        from chat_app.tui.screens.settings import SettingsScreen

        def apply(settings: Settings | None) -> None:
            if settings is not None:
                self.chat.session.change_settings(settings)
                self.chat.note("The settings count from the next reply on.")

        if not isinstance(self.screen, SettingsScreen):
            self.push_screen(SettingsScreen(self.chat.session.settings), apply)

    def show_history(self, query: str = "") -> None:
        """Open the list of chats with a search for `query`, unless it is open."""
        from chat_app.tui.screens.history import Chosen, HistoryScreen

        def opened(chosen: Chosen | None) -> None:
            if chosen is not None:
                self.chat.work.spawn(self.open_chat(*chosen))

        if not isinstance(self.screen, HistoryScreen):
            self.push_screen(HistoryScreen(self.store, query=query, renamed=self._renamed), opened)

    def _renamed(self, chat_id: str, title: str) -> None:
        session = self.chat.session
        if session.chat.id == chat_id:
            session.conversation.title = title
            self.chat.show_state()

    def resume(self, chat_id: str) -> None:
        """Leave this chat for another."""
        self.chat.work.spawn(self.open_chat(chat_id))

    async def open_chat(self, chat_id: str, message_id: str | None = None, words: str = "") -> None:
        """Open a chat in this one's place, where these words stand in one of its messages; one that cannot be
        read is told, and this one stays."""
        chat = self.chat
        chat.prompt.focus()
        try:
            await chat.session.open_chat(chat_id)
        except StoreError as error:
            chat.note(str(error), "error")
            return
        if message_id is not None:
            chat.session.branches.show(message_id)
            chat.find(words, message_id)

    def inspect(self, message_id: str, at: int = 0) -> None:
        """Open the token inspector on a reply, by its id, the cursor on its token `at`."""
        from chat_app.tui.screens.inspector import InspectorScreen

        spawn, draw = self.chat.work.spawn, self.draw_continuations
        self.push_screen(InspectorScreen(self.chat.session, message_id, spawn, draw, at))

    def draw_continuations(self, message_id: str, at: int) -> None:
        """Draw how a reply, by its id, could go on from its token `at`, and show where that agrees."""
        from chat_app.chat.comparing.continuations import Continuations
        from chat_app.tui.screens.continuations import ContinuationsScreen

        def done(kept: bool | None) -> None:
            if kept:  # the text with the cursor goes, so the prompt has the keys, as after another token
                self.chat.prompt.focus()

        drawn = Continuations(self.chat.session, message_id, at)
        self.push_screen(ContinuationsScreen(drawn, self.chat.work.spawn), done)

    def show_comparison(self, comparison: Comparison) -> None:
        """Let two sides answer side by side."""
        from chat_app.tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(comparison, self.chat.session.comparisons, self.chat.work.spawn))

    def show_text(self, title: str, text: str) -> None:
        """Open a screen with a text to read."""
        from chat_app.tui.screens.text_view import TextScreen

        self.push_screen(TextScreen(title, text))

    async def show_tokens(self, text: str) -> None:
        """Split `text` by the loaded model's tokenizer and show the tokens."""
        from chat_app.tui.screens.text_view import TokensScreen

        tokens = await self.chat.session.branches.split(text)
        self.push_screen(TokensScreen([(token.id, token.text) for token in tokens]))

    def export_chat(self, target: str) -> None:
        """Write the chat to a file; "" is Markdown under its title, in the current folder."""
        from chat_app.tui.screens.exporting import run_export

        chat = self.chat

        def export() -> None:
            chat.work.spawn(run_export(chat.session, target, chat.note, self.export_screenshot))

        chat.call_after_refresh(export)  # a picture shows the screen without the typed command

    def action_command_palette(self) -> None:
        """Open the palette, unless it is open."""
        from chat_app.tui.screens.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def search_themes(self) -> None:
        """Open the palette with the themes."""
        from textual.theme import ThemeProvider

        from chat_app.tui.screens.palette import Palette

        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette shows the app's commands in place of Textual's."""
        from chat_app.tui.screens.palette import system_commands

        yield from system_commands(self.chat.run_command, self.chat.action_panel, self.action_suspend_process)

    def past_chats(self) -> list[ChatSummary]:
        """All chats, for the palette. Raises StoreError."""
        return self.store.list()

    def use_model(self, name: str) -> None:
        """Another model in this one's place."""
        self.models.find(name)


def key_groups() -> KeyGroups:
    """All bindings under headlines, in the order of the help screen."""
    from chat_app.tui.widgets.messages.tint import TintedText
    from chat_app.tui.widgets.messages.view import MessageView

    return [
        ("Anywhere", LlamaChatApp.BINDINGS),
        ("In the prompt", PromptArea.BINDINGS),
        ("In a chat", ChatScreen.BINDINGS),
        ("On a selected message ({chat.select_previous})", MessageView.BINDINGS),
        ("On the tokens of a tinted reply ({chat.tokens})", TintedText.BINDINGS),
    ]


def run_app(
    settings: Settings,
    *,
    prompt: str | None = None,
    continue_latest: bool = False,
    resume: str | None = None,
    chosen: Collection[str] = (),
    files: Sequence[str] = (),
    open_engine: OpenEngine = open_engine,
) -> int:
    """Open the app and come back when it is closed; returns the exit code.

    `resume` is a chat's id or an unambiguous part of it; "" opens the list of chats. Raises StoreError where
    there is no such chat.
    """
    from chat_app.tui.signals import GracefulEnd

    store = open_store(get_paths())
    chat_id, settings = resumed(
        store, settings, resume=resume, continue_latest=continue_latest, chosen=chosen
    )
    app = LlamaChatApp(
        settings,
        store=store,
        open_engine=open_engine,
        prompt=prompt,
        chat_id=chat_id,
        chooses_chat=resume == "",
        files=files,
    )
    gc.disable()  # until the first paint: collecting costs a quarter of the time to it
    with GracefulEnd(app, app.save_all, app.after_typing):
        app.run()
    app.host.close(timeout=0.5)
    chat = app.chat.session.chat
    if chat.unsaved:
        print(f"Not saved, and lost with this window: {len(chat.unsaved):,} message(s) of this chat.")
    elif settings.save and len(chat.conversation):
        print(f"Resume this chat with: llama-chat --resume {clean_line(chat.id)}")
    return app.return_code or 0
