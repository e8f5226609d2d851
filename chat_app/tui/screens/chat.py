"""The chat: lays out its parts, draws what the controller says (it is its `ChatView`), answers keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.messages import Prune
from textual.screen import Screen
from textual.widgets import Static

from chat_app.chat.commands import SLASH, ScreenHost
from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.chat.summary import SummaryDraft
from chat_app.chat.view import ChatView, Room, Severity
from chat_app.engines.base import Prompt, Source
from chat_app.store.prompts import Drafts, PromptHistory
from chat_app.text.errors import describe_error
from chat_app.tui import clipboard
from chat_app.tui.chat_keys import CHAT_KEYS
from chat_app.tui.code_walk import to_code
from chat_app.tui.command_line import CommandLine
from chat_app.tui.draft_keeper import DraftKeeper
from chat_app.tui.drain import TICK_S, Drain, EngineNews
from chat_app.tui.drawn_conversation import DrawnConversation
from chat_app.tui.editor import OutsideEditor
from chat_app.tui.finder import Finder
from chat_app.tui.heading import Heading
from chat_app.tui.home import Home
from chat_app.tui.interrupt import Interrupt
from chat_app.tui.key_words import with_keys
from chat_app.tui.live_numbers import LiveNumbers
from chat_app.tui.message_actions import MessageActions
from chat_app.tui.token_cursor import TokenCursor
from chat_app.tui.widgets import key_bar
from chat_app.tui.widgets.composer import Composer
from chat_app.tui.widgets.fetch_row import FetchRow
from chat_app.tui.widgets.find_bar import FindBar
from chat_app.tui.widgets.key_bar import KeyBar
from chat_app.tui.widgets.messages.list import MessageList
from chat_app.tui.widgets.messages.tint import TintedText
from chat_app.tui.widgets.messages.view import MessageView
from chat_app.tui.widgets.prompt import PromptArea
from chat_app.tui.widgets.status import Banner, NewsWanted, StatusRow
from chat_app.tui.work import Work
from llama_core.events import Event

MakeController = Callable[[ChatView, Callable[[Coroutine[Any, Any, Any]], object]], ChatController]


class ChatScreen(Screen[None]):
    """The screen the app starts with, and its only one that is always there."""

    AUTO_FOCUS = "#prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual declares it so
    VERTICAL_BREAKPOINTS = [(0, "-short"), (38, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = CHAT_KEYS

    def __init__(
        self,
        home: Home,
        make_controller: MakeController,
        make_host: Callable[[ChatScreen], ScreenHost],
        *,
        history: PromptHistory,
        drafts: Drafts,
        clock: Callable[[], float],
        keymap: Mapping[str, str],
        panel_mode: str,
        has_first_chat: bool,
    ) -> None:
        super().__init__(id="chat")
        self._home = home
        self._has_first_chat = has_first_chat
        self._generated = False  # whether a reply was under way when last looked
        self._thinking = ""  # the message whose thought is being written
        self.work = Work(lambda job: self.run_worker(job, group="session"), self._tell)
        self.session = make_controller(self, self.work.spawn)
        self.host = make_host(self)
        self._heading = Heading(self.session, home)
        self._drawn = DrawnConversation(self.session, self.work)
        self.messages = self._drawn.messages
        self.status = StatusRow(id="status")
        self.fetch_row = FetchRow(id="fetch")
        self.composer = Composer(
            submit=self.submit,
            command=self.run_command,
            history=history,
            drafts=DraftKeeper(drafts),
            work=self.work,
            completions=lambda text: SLASH.completions(self.host, text),
            sizes=self.session.attaching.sizes,
            ahead=self.session.ahead.follow,
            draft=lambda: (self._draft_name(), self.session.unsent),
            may_edit=self.session.branches.may_move,
            keymap=keymap,
        )
        self._numbers = LiveNumbers(self, self.session, panel_mode, clock)
        self._numbers.show_mode(update=False)
        self._commands = CommandLine(self.host, self.work, self.prompt)
        self._editor = OutsideEditor(self.prompt, self.note)
        self._interrupt = Interrupt(
            self, self.composer, self.copy, self.note, self._stop_what_runs, home.leave, clock
        )
        self._finder = Finder(self.session, self._drawn, self.prompt, self.work)
        self._cursor = TokenCursor(self.session, self._drawn, self.prompt, self.work, home)
        self._actions = MessageActions(
            self.session, self.messages, self.prompt, self.work, home, copy=self.copy, edit=self.begin_edit
        )
        self._drain = Drain(
            self.session.take_news, self.work.later, self.call_after_refresh, self._numbers.show, clock
        )

    @property
    def prompt(self) -> PromptArea:
        """The box one types into."""
        return self.composer.prompt

    def compose(self) -> ComposeResult:
        """The chat in a column, the live panel at its right, the keys below both."""
        yield self._heading.title
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield Banner(id="banner")
                yield self._heading.welcome
                yield self.messages
                yield Static("", id="new-text")
                yield self._finder.bar
                yield self._cursor.line
                yield self.fetch_row
                yield self.status
                yield self._numbers.line
                yield self.composer
            yield self._numbers.panel
        yield KeyBar(id="key-bar")

    def on_mount(self) -> None:
        """Show what is known at once; what takes time begins after the first paint."""
        self._tick_timer = self.set_interval(TICK_S, self._tick, pause=True)
        self.show_state()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint: everything that may take a moment."""
        if not self.app.is_running:
            return  # it ended before that, and has nothing left to begin with
        self.run_worker(self.work.draw_in_order(), group="drawing")
        self.watch(self, "focused", self._focus_moved, init=False)
        self.show_keys()
        if not self._has_first_chat:  # else its own draft comes with it
            self.composer.load_draft(self.session.chat)
        self._home.begin()

    def on_screen_suspend(self) -> None:
        """Another screen is on top: the keys of this one are dead, so none is shown."""
        for bar in self.query(KeyBar):  # there is none any more where the app ends
            bar.show_keys(())

    def on_screen_resume(self) -> None:
        """The keys count again, and what was said over a dialog is to be seen here."""
        self.post_message(NewsWanted())
        self.call_after_refresh(self.show_keys)

    def _focus_moved(self) -> None:
        self.call_after_refresh(self.show_keys)

    @on(Prune)
    def end_work(self) -> None:
        """The app ends, and with it this screen: no work may come back to widgets that are no more (see
        `Dialog.end_work`), the app's own neither."""
        self.workers.cancel_all()

    def _draft_name(self) -> str:
        return self.session.chat.id if len(self.session.conversation) and self.session.chat.id else "new"

    # Words to the user.

    def note(self, text: str, severity: Severity = "information") -> None:
        """In the status row of the screen on top."""
        self._home.note(text, severity)

    def _tell(self, error: Exception) -> None:
        self.note(describe_error(error), "error")

    def copy(self, text: str) -> None:
        """Put `text` on the clipboard and say whether that worked."""
        self.note(clipboard.copy(text, self.app.copy_to_clipboard))

    # ChatView: what the controller has to show.

    def show_chat(self) -> None:
        """Draw another chat from its start, with its draft; an edit of the chat before ends, and finding."""
        self._finder.close()
        if self.composer.editing is not None and self.composer.editing not in self.session.conversation:
            self.composer.end_edit(keep_text=True)  # another chat
        self.composer.load_draft(self.session.chat)
        self._drawn.show_path()
        self.show_state()

    def show_message(self, message: Message) -> None:
        """Add a message at the end of the path."""
        self._drawn.add(message)
        self.show_state()

    def update_message(self, message: Message) -> None:
        """Draw a message as it is once it no longer grows."""
        self._drawn.settle(message)

    def add_text(self, message_id: str, text: str) -> None:
        """Add to a growing message; where the user has scrolled up, say that there is new text."""
        if message_id == self._thinking:
            self._thinking = ""
            self.show_keys()
        self._drawn.add_text(message_id, text)
        if not self.messages.following:
            self.show_new_text(True)

    def add_thought(self, message_id: str, text: str, tokens: int, seconds: float) -> None:
        """More of a reply's thought; its beginning brings the keys for it."""
        if message_id != self._thinking:
            self._thinking = message_id
            self.show_keys()
        self._drawn.add_thought(message_id, text, tokens, seconds)

    def show_event(self, event: Event) -> None:
        """The panel shows the events, and what counts of them is in the metrics."""

    def show_queue(self, prompts: list[str]) -> None:
        """Show the prompts that wait and what they wait for; none hides them."""
        reason = "the model is loaded" if self.session.model.info is None else "the reply is done"
        self.composer.show_queue(prompts, reason)
        self._home.tell_waiting()

    def show_ahead(self, text: str) -> None:
        """Show it in the frame of the prompt box."""
        self.composer.show_ahead(text)

    def show_trouble(self, text: str | None) -> None:
        """Show what keeps messages from the disk until it is mended; None hides it."""
        self.query_one("#banner", Banner).show(text, "/save tries again")
        self._drawn.refresh()

    def show_load_failure(self, source: Source, text: str, instead: Source | None) -> None:
        """Leave it to the app, which knows how another is chosen."""
        self._home.model_failed(source, text, instead)

    def give_back(self, text: str) -> None:
        """Put a prompt that was not sent back into the box."""
        self.composer.give_back(text)

    async def ask_overflow(self, prompt: Prompt, larger: int, files_n: int = 0) -> Room | None:
        """Ask how to make room; None when the user does not want to send, or leaves."""
        from chat_app.tui.screens.overflow import OverflowScreen

        return await self.app.push_screen_wait(OverflowScreen(prompt, larger, files_n))

    async def review_summary(self, draft: SummaryDraft) -> str | None:
        """Show it while it is written, and let it be edited; None where it is not to be used."""
        from chat_app.tui.screens.compact import CompactScreen

        return await self.app.push_screen_wait(CompactScreen(draft))

    def show_state(self) -> None:
        """Title, welcome, footer; and whether the queue is drained on a timer."""
        if not self.is_mounted:
            return
        session = self.session
        self._heading.show()
        self.messages.display = not self._heading.welcome.display
        if session.generating or session.model.loading is not None:
            self._tick_timer.resume()
        if self._generated and not session.generating:
            self._home.reply_done()
        self._generated = session.generating
        self._home.tell_waiting()
        self._cursor.try_again()
        self._numbers.show()
        self.show_keys()

    # The engine's news.

    async def on_engine_news(self, _: EngineNews) -> None:
        """Take the waiting records; the live numbers too, unless a reply's timer shows them."""
        await self._drain.now(numbers=not self.session.generating)

    async def _tick(self) -> None:
        if not await self._drain.tick(numbers=not self.session.generating):
            return
        if self.session.model.loading is not None:
            self.show_state()
        elif not self.session.generating:
            self._tick_timer.pause()

    # The footer, the hint.

    def show_keys(self) -> None:
        """Let the footer show the keys of what has the focus; none below a dialog."""
        if not self.is_active:  # `is_current` is true below a dialog too
            return
        reply = self.session.reply
        keys = key_bar.keys_of(
            self.focused, generating=self.session.generating, thinking=reply is not None and reply.thinking
        )
        self.query_one("#key-bar", KeyBar).show_keys(keys)

    def show_new_text(self, visible: bool) -> None:
        """Show or hide the hint that text has come below what is in sight."""
        hint = self.query_one("#new-text", Static)
        if hint.display != visible:
            hint.display = visible
            hint.update(Content(with_keys(self, "▼ new text below ({chat.to_end})")))

    # The prompt.

    def submit(self, text: str, edits: str | None) -> None:
        """Send a prompt, or another wording of a message."""
        if edits is None or self.session.conversation.get(edits).role == "user":
            self.session.submit(text, edits=edits)
        else:
            self.work.spawn(self.session.branches.edit(edits, text))

    def on_prompt_area_leave(self) -> None:
        """Ctrl+D in an empty prompt ends the app."""
        self._home.leave()

    def begin_edit(self, message_id: str) -> None:
        """Put a message into the prompt box; Enter then makes a branch."""
        self.composer.begin_edit(message_id, self.session.conversation.get(message_id).content)

    def run_command(self, line: str) -> None:
        """Run a slash command as if it were typed."""
        self._commands.run(line)

    def action_editor(self) -> None:
        """Write the prompt in $VISUAL or $EDITOR."""
        self.work.spawn(self._editor.edit(in_memory=not self.session.settings.save))

    # Keys.

    def action_stop(self) -> None:
        """Esc: from a message to the prompt; else stop, keeping partial reply and queue; else end finding."""
        if isinstance(self.focused, MessageView):
            self.prompt.focus()
            return
        if self.composer.end_edit():
            return
        if self.session.queue:
            self.session.take_back_queue()
            self.session.stop()
        elif not self._stop_what_runs():
            self._finder.close()
        self.prompt.focus()

    def _stop_what_runs(self) -> bool:
        """The reply, else a download; False where neither runs."""
        return self.session.stop() or self.fetch_row.stop()

    def action_interrupt(self) -> None:
        """Ctrl+C, once the prompt has taken in the keys that were pressed before."""
        self.prompt.call_later(self._interrupt.step)

    def action_new_chat(self) -> None:
        """Start a new chat; prompts sent just before still belong to the old one."""
        # What was sent before belongs to this chat, so it is sent first.
        self.prompt.call_later(lambda: self.work.spawn(self.session.new_chat()))
        self.prompt.focus()

    def action_history(self) -> None:
        """Open the list of chats."""
        self._home.show_history()

    def action_reset(self) -> None:
        """Empty the KV cache; the transcript stays."""
        self.session.reset_cache()

    def action_panel(self) -> None:
        """Take the live numbers one step deeper (line, card, lab, hidden) and remember it."""
        self._home.remember(panel=self._numbers.next_mode())
        if not self._numbers.wide:
            self.note("The panel opens in a terminal of 120 columns or more; here it is one line.")

    def action_panel_more(self) -> None:
        """Scroll the panel on, and from its end back to its top."""
        self._numbers.panel.turn_page()

    def action_page(self, direction: int) -> None:
        """Scroll by a page, up where `direction` is below 0; at an end of what is mounted, load more."""
        messages = self.messages
        if direction < 0:
            if messages.scroll_y <= 0:
                self.work.later(lambda: messages.load(-1))
            messages.scroll_page_up(animate=False)
        else:
            if messages.scroll_y >= messages.max_scroll_y:
                self.work.later(lambda: messages.load(1))
            messages.scroll_page_down(animate=False)

    def action_to_end(self) -> None:
        """Scroll to the newest text and follow it again."""
        self.work.later(self.messages.to_end)
        self.show_new_text(False)

    def action_answer_now(self) -> None:
        """Close the thought under way, so that the answer begins."""
        self.session.answer_now()

    def action_thought(self) -> None:
        """Unfold or fold a thought or files."""
        self._actions.toggle_fold(self.focused)

    def action_times(self) -> None:
        """Show when each message was written, or no longer."""
        self._drawn.toggle_times()

    def action_code(self, step: int) -> None:
        """Scroll to the next block of code, or to the one before."""
        if not to_code(self.messages, step):
            self.note(f"There is no code {'below' if step > 0 else 'above'}.")

    def action_tint(self) -> None:
        """Tint the replies, or show them as before. What is found is marked in the text as it reads."""
        self._finder.close()
        self._drawn.toggle_tint()

    def action_tokens(self) -> None:
        """Walk through the tokens of the selected reply, else of the newest."""
        self._finder.close()
        self._cursor.start(self.focused)

    def action_cut_loop(self) -> None:
        """Cut a reply where it began to repeat itself."""
        self._actions.cut_loop(self.focused)

    def action_select(self, step: int) -> None:
        """Alt+Up and Alt+Down walk through the messages and back into the prompt."""
        self._actions.select(step, self.focused)

    # Finding in the chat.

    def action_find(self) -> None:
        """Look for something in this chat."""
        self.find(None)

    def find(self, text: str | None, first: str | None = None) -> None:
        """Open the row in which one types what to look for, with `text` in it, to begin at a message."""
        if self.session.path():
            self._finder.open(text, first)
        else:
            self.note("There is nothing in this chat yet.")

    def on_find_bar_sought(self, event: FindBar.Sought) -> None:
        """Another text is looked for."""
        self._finder.seek(event.text)

    def on_find_bar_go(self, event: FindBar.Go) -> None:
        """To the next place, or the one before."""
        self._finder.go(event.step)

    def on_find_bar_closed(self) -> None:
        """Back to the prompt; what was found stays in sight."""
        self._finder.close()

    # What is done with a message.

    def on_message_view_menu_wanted(self, event: MessageView.MenuWanted) -> None:
        """Open the menu of a message."""
        self._actions.open_menu(event.message_id)

    def on_message_view_act(self, event: MessageView.Act) -> None:
        """Do to a message what its key says."""
        self._actions.act(event.action, event.message_id)

    def on_tinted_text_pointed(self, event: TintedText.Pointed) -> None:
        """Put the cursor on a token of a tinted reply."""
        self._cursor.point(event.text, event.at)

    def on_message_view_link_shown(self, event: MessageView.LinkShown) -> None:
        """Say where a link leads; nothing is opened."""
        self.note(f"This link leads to {event.address}. Links in replies are not opened.")

    def on_message_list_at_end(self) -> None:
        """The end is in sight again, so the hint about new text goes."""
        self.show_new_text(False)

    def on_message_list_want_more(self, event: MessageList.WantMore) -> None:
        """Mount earlier messages above, or later ones below."""
        self.work.later(lambda: self.messages.load(event.step))

    def on_resize(self) -> None:
        """Fit what depends on the width anew."""
        self.call_after_refresh(self.show_state)
