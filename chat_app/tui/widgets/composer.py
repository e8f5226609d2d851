"""Where one writes: what waits, the command's completions, the prompt box; behind them history and drafts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import TextArea

from chat_app.attachments.attachment import Attachment
from chat_app.attachments.mentions import as_mention, offers
from chat_app.chat.slash import Completion, is_command
from chat_app.config.endpoints import holds_login
from chat_app.store.prompts import PromptHistory
from chat_app.tui.draft_keeper import DraftKeeper
from chat_app.tui.key_words import with_keys
from chat_app.tui.widgets.attachments import AttachmentPreview, SizesOf
from chat_app.tui.widgets.prompt import PromptArea, to_send
from chat_app.tui.widgets.status import CompletionList, QueueLine
from chat_app.tui.work import Work

DRAFT_PERIOD_S = 1.0
EDITING = "Editing · {prompt.send} makes a branch · {chat.stop} leaves"


class Composer(Vertical):
    """submit: takes a prompt, and the message of which it is another wording if there is one, in the step in
    which it leaves the box. command: takes a slash command. completions: what a typed line may become.
    sizes: what files would take of the context. ahead: hears what would be sent now: the text, its files, and
    the message in whose place. draft: the name under which the box is kept, and what waits
    to be sent beside it. may_edit: whether another wording can be sent now."""

    def __init__(
        self,
        *,
        submit: Callable[[str, str | None], object],
        command: Callable[[str], object],
        history: PromptHistory,
        drafts: DraftKeeper,
        work: Work,
        completions: Callable[[str], Sequence[Completion]],
        sizes: SizesOf,
        ahead: Callable[[str, Sequence[Attachment], str | None], object],
        draft: Callable[[], tuple[str, Sequence[str]]],
        may_edit: Callable[[], bool],
        keymap: Mapping[str, str],
    ) -> None:
        super().__init__(id="composer")
        self.editing: str | None = None  # the message that Enter sends in other words
        self._unedited = ""  # its own words
        self._queue = QueueLine(id="queue")
        self._completions = CompletionList(id="completions")
        self._preview = AttachmentPreview(sizes, work, self._tell_ahead, id="attached")
        self._ahead = ahead
        self.prompt = PromptArea(self._send, id="prompt", completions=self._completions, keymap=keymap)
        self._submit, self._command = submit, command
        self._history, self._drafts, self._work = history, drafts, work
        self._complete, self._draft, self._may_edit = completions, draft, may_edit

    def compose(self) -> ComposeResult:
        """From above: prompts that wait, completions, files that are mentioned, the box."""
        yield self._queue
        yield self._completions
        yield self._preview
        yield self.prompt

    def on_mount(self) -> None:
        """Keep the draft every few seconds from now on."""
        self.set_interval(DRAFT_PERIOD_S, self._keep_draft)

    # Sending and recalling.

    def _send(self, text: str) -> None:
        self._completions.show("", ())  # with the line they are of, not a moment later
        self._work.spawn(self._remember(text))
        if is_command(text):
            self._command(text)
            return
        if self.editing is not None and not self._may_edit():
            self.prompt.set_text(text)
            return
        edits, self.editing = self.editing, None
        self.prompt.border_title = ""
        self._submit(text, edits)

    async def _remember(self, text: str) -> None:
        """Into the history, on another thread: the disk must not hold up the screen."""
        if not holds_login(text):
            await asyncio.to_thread(self._history.add, text)
        await self._keep_draft()

    def on_prompt_area_recall(self, event: PromptArea.Recall) -> None:
        """Put an earlier or later prompt into the box, if there is one."""
        event.stop()
        found = self._history.older(self.prompt.text) if event.step < 0 else self._history.newer()
        if found is not None:
            self.prompt.set_text(found)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Show what the typed command or mention may become, and what the files take that are mentioned."""
        event.stop()
        typed = event.text_area.text
        self._completions.show(typed, self._complete(typed) or mention_completions(typed))
        self._preview.follow(typed)
        self._tell_ahead()

    def _tell_ahead(self) -> None:
        text = "" if is_command(self.prompt.text) else to_send(self.prompt.text)
        self._ahead(text, self._preview.files, self.editing)

    def show_ahead(self, text: str) -> None:
        """What is read of it already, in the frame of the box."""
        self.prompt.border_subtitle = Content(text)

    def show_queue(self, prompts: Sequence[str], reason: str) -> None:
        """Show the prompts that wait, oldest first, and what they wait for."""
        self._queue.show(prompts, reason)

    def mention(self, names: Sequence[str]) -> None:
        """Put files before what is typed, as one would mention them there."""
        typed = self.prompt.kept_text
        self.prompt.set_text(" ".join([*map(as_mention, names), typed]))

    # Editing a message.

    def begin_edit(self, message_id: str, text: str) -> None:
        """Put a message into the box; Enter then makes a branch. What stood there can be recalled with Up."""
        if self.editing is None:
            self.put_aside()
        self.editing, self._unedited = message_id, text
        self.prompt.set_text(text)
        self.prompt.border_title = Content(with_keys(self.prompt, EDITING))
        self.prompt.focus()

    def put_aside(self) -> None:
        """Clear the box; Up brings back what stood there, after a crash too."""
        text = self.prompt.text
        self.prompt.clear()
        if holds_login(text):
            self._history.prompts.append(text)  # in memory alone
        elif self._history.remember(text):
            self._work.spawn(asyncio.to_thread(self._history.flush))

    def end_edit(self, *, keep_text: bool = False) -> bool:
        """Leave editing; False where nothing was edited. With `keep_text` it stays, as an ordinary prompt."""
        if self.editing is None:
            return False
        self.editing = None
        self.prompt.border_title = ""
        if not keep_text:
            self.prompt.clear()
        return True

    # Drafts.

    def give_back(self, text: str) -> None:
        """Text that was not sent goes back into the box, before what is typed there."""
        typed = self.prompt.kept_text
        self.prompt.set_text(f"{text}\n\n{typed}" if typed.strip() else text)

    def load_draft(self, chat: object) -> None:
        """A chat has come up: its draft joins what is typed already."""
        if draft := self._drafts.draft_of(chat, self._draft()[0]):
            self.give_back(draft)

    def keep_draft(self) -> None:
        """What is typed and waits comes back when the chat does. Waits for the disk."""
        self._drafts.keep_now(*self._waiting())

    async def _keep_draft(self) -> None:
        await self._drafts.keep(*self._waiting())

    def _waiting(self) -> tuple[str, str]:
        """The draft's name, and what is typed and waits."""
        name, unsent = self._draft()
        text = self.prompt.kept_text
        typed = [] if self.editing is not None and text == self._unedited else [text]
        return name, "\n\n".join(text for text in (*unsent, *typed) if text.strip())


def mention_completions(text: str) -> list[Completion]:
    """What the mention of a file at the end of a prompt may become; none in a command."""
    if is_command(text):
        return []
    head = text.rpartition("@")[0]
    return [
        Completion(line[len(head) :].rstrip(), about, line, is_typed=line.rstrip() == text, is_whole=False)
        for line, about in offers(text)
    ]
