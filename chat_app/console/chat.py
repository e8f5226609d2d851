"""A chat without a screen: the controller, driven from one thread, with a view that writes lines.

Replies go to stdout, everything else to stderr. The engine computes on the same thread, a step whenever its
news are asked for, so that a reader who takes the reply slowly also slows the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.chat.recall import EVERYTHING
from chat_app.chat.summary import SummaryDraft
from chat_app.chat.view import Room, Severity
from chat_app.config.settings import Settings
from chat_app.console.interrupt import stop_on_signals
from chat_app.console.reply_writer import ReplyWriter
from chat_app.console.streams import say
from chat_app.engines.base import Engine, OnProgress, OpenEngine, Prompt, Source
from chat_app.engines.host import EngineHost
from chat_app.engines.runners import InlineRunner
from chat_app.engines.sources import open_engine
from chat_app.models.catalogue import known_sha256
from chat_app.store.chats import ChatStore
from llama_core.errors import ContextFullError
from llama_core.events import Event

T = TypeVar("T")

REST_S = 0.001  # while nothing but the disk works


class LineView:
    """A `ChatView` of lines. A prompt that does not fit loses its oldest turns without a question."""

    def __init__(self, writer: ReplyWriter) -> None:
        self.writer = writer
        self.failed = False
        self._trouble: str | None = None

    def show_event(self, event: Event) -> None:
        """Write what the event brings."""
        self.writer.write(event)

    def update_message(self, message: Message) -> None:
        """A reply that failed is told on stderr, and counts for the exit code."""
        if message.status == "failed":
            self.failed = True
            say(str(message.x.get("error") or "The reply failed."))

    def show_trouble(self, text: str | None) -> None:
        """Say what keeps messages from the disk, once for each trouble."""
        if text and text != self._trouble:
            say(text)
        self._trouble = text or self._trouble

    def show_load_failure(self, source: Source, text: str, instead: Source | None) -> None:
        """Say it; a chat of lines offers no other model."""
        self.note(text if instead is None else f"{text} {instead.name} is loaded again.", "error")

    def note(self, text: str, severity: Severity = "information") -> None:
        """The sentence on stderr; an error counts for the exit code."""
        self.failed = self.failed or severity == "error"
        say(text)

    async def ask_overflow(self, prompt: Prompt, larger: int, files_n: int = 0) -> Room | None:
        """Agree. Raises ContextFullError where leaving out turns would not help."""
        if not prompt.drop and prompt.prompt_n >= prompt.limit:
            raise ContextFullError(prompt.prompt_n + 1, prompt.limit)
        return "drop"

    async def review_summary(self, draft: SummaryDraft) -> str | None:
        """Wait for it, and print it: here it cannot be edited."""
        while not draft.done.is_set():
            await asyncio.sleep(REST_S)
        if draft.error:
            self.note(draft.error, "error")
            return None
        say(draft.text)
        return draft.text

    def show_chat(self) -> None:
        """Lines above stay as they are."""

    def show_message(self, message: Message) -> None:
        """A prompt stands there already, and a reply comes as events."""

    def add_text(self, message_id: str, text: str) -> None:
        """The writer has it from the event."""

    def add_thought(self, message_id: str, text: str, tokens: int, seconds: float) -> None:
        """The writer hears of each event."""

    def show_queue(self, prompts: list[str]) -> None:
        """Nothing is typed while a reply is written."""

    def show_ahead(self, text: str) -> None:
        """Nothing is read ahead: a line comes whole."""

    def show_state(self) -> None:
        """There is no line for it."""

    def give_back(self, text: str) -> None:
        """There is no box to give it back to."""


def _ready_first(engine: Engine) -> OpenEngine:
    """Gives the engine that is there already to who asks first, and opens those that are asked for later."""
    ready = [engine]

    def open_next(source: Source, settings: Settings, on_progress: OnProgress) -> Engine:
        return ready.pop() if ready else open_engine(source, settings, on_progress)

    return open_next


class ConsoleChat:
    """The present chat and its engine, which the caller closes. Use it in a `with` block."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        source: Source,
        writer: ReplyWriter,
        store: ChatStore,
        *,
        kind: str = "chat",
    ) -> None:
        """`kind`: see `ChatFiles`."""
        self.view = LineView(writer)
        self.files: list[str] = []  # what goes with the next prompt
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner = asyncio.Runner()
        self._host = EngineHost(open_engine=_ready_first(engine), runner=InlineRunner())
        self.controller = ChatController(
            self.view,
            self._host,
            settings,
            store,
            self.spawn,
            model_hash=known_sha256,
            kind=kind,
        )
        writer.controller = self.controller
        self._settle(self._load(source))

    def __enter__(self) -> ConsoleChat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.controller.save_now()
        self._host.close()
        self._runner.close()

    def open(self, chat_id: str | None) -> None:
        """Go on with a stored chat, if one is named. Raises StoreError."""
        if chat_id is not None:
            self.run(self.controller.open_chat(chat_id, chosen=EVERYTHING))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something with the controller, and wait for all that follows from it."""
        return self._settle(work)

    def answer(self, text: str, *, raw: bool = False, mentions: bool = True) -> int:
        """Write the reply to a prompt, with which go `files`, and with `mentions` what it names with an `@`.

        Ctrl+C, SIGTERM and SIGHUP stop it and keep what is there. Returns 0, 1 where there is no reply, or
        128 + the signal. Raises OSError where stdout takes no more; the reply is kept then too.
        """
        self.view.failed = False
        with stop_on_signals(self._host.cancel) as flag:
            self._settle(self._submit(text, raw=raw, mentions=mentions))
        return flag.exit_code or int(self.view.failed)

    async def _submit(self, text: str, *, raw: bool, mentions: bool) -> None:
        files, self.files = self.files, []
        self.controller.submit(text, raw=raw, files=files, mentions=mentions)

    async def _load(self, source: Source) -> None:
        self.controller.load_model(source)

    def _settle(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(self._until_idle(work))
        except BaseException:  # stdout is closed, a second Ctrl+C: the reply so far is kept, now
            self._runner.run(self.controller.stop_and_save())
            raise

    async def _until_idle(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, taking in what the engine has to tell, until nothing is left to be done."""
        first = asyncio.ensure_future(work)
        self._tasks.add(first)
        while self._tasks or not self.controller.idle or self.controller.model.loading is not None:
            moved = await self.controller.take_news()
            await asyncio.sleep(0 if moved else REST_S)
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
        return first.result()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something more while `run` waits; it waits for this too."""
        self._tasks.add(asyncio.ensure_future(work))
