"""A chat without a screen: its turns, a prompt that fits, and the transcript. For one-shot and line mode."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.chat.conversation import Message
from chat_app.chat.prompting import prepare, with_user_turn
from chat_app.chat.reply import GrowingReply, sampling_json
from chat_app.chat.saver import ChatFile, MemoryTranscript
from chat_app.config.paths import get_paths
from chat_app.console.streams import say
from chat_app.models.catalogue import known_sha256
from chat_app.store.chats import StoreError, open_store
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean_line
from llama_core.errors import ContextFullError
from llama_core.events import Event, Finished

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.engine.text import TextEngine

CHECKPOINT_PERIOD_S = 1.0
TITLE_LENGTH = 60


def open_chat(settings: Settings, *, continue_latest: bool = False, resume: str | None = None) -> ChatFile:
    """The chat to talk in: a new one, the latest (a new one where there is none), or the one named.

    Raises StoreError when the named chat does not exist or cannot be read.
    """
    store = open_store(get_paths())
    chat_id = store.find(resume) if resume else None
    if continue_latest:
        latest = store.latest()
        chat_id = latest.id if latest else None
        if latest is None:
            say("There is no chat to continue; this is a new one.")
    if chat_id is None:
        return store.create(model=settings.model) if settings.save else MemoryTranscript()
    chat: ChatFile = store.open(chat_id)
    for warning in chat.warnings:
        say(warning)
    if settings.save:
        return chat
    memory = MemoryTranscript()
    memory.conversation.take_over(chat.conversation)
    chat.close()
    return memory


class LineChat:
    """Asks, records, saves. A transcript that cannot be written never stops a reply: stderr says so."""

    def __init__(self, settings: Settings, chat: ChatFile, engine: TextEngine, path: Path) -> None:
        self.settings = settings
        self.chat = chat
        self._engine = engine
        self._path = path
        self._trouble = ""

    def ask(self, text: str) -> list[int]:
        """Add the user's turn (on disk when this returns) and give the ids of the prompt to answer.

        Where the context is too small the oldest turns are left out, said on stderr. Raises ContextFullError
        when even that does not help, and then nothing was added.
        """
        conversation = self.chat.conversation
        turns = with_user_turn(conversation.to_messages(self.settings.system), text)
        prepared = prepare(self._engine, turns, self.settings.params)
        if not prepared.fits and prepared.can_drop:
            dropped = len(prepared.plan.drop)
            what = "oldest message is" if dropped == 1 else f"{dropped} oldest messages are"
            say(f"The context is full: the {what} left out.")
            prepared = prepare(self._engine, prepared.remaining(), self.settings.params)
        if len(prepared.ids) >= self._engine.ctx_size:
            raise ContextFullError(len(prepared.ids) + 1, self._engine.ctx_size)
        room, wanted = self._engine.ctx_size - len(prepared.ids), self.settings.params.max_tokens
        if wanted is not None and room < wanted:
            say(f"The context has room for a reply of {room:,} tokens, not for num_predict {wanted:,}.")
        first = len(conversation) == 0
        self._save(conversation.add("user", text))
        if first:
            try:
                self.chat.set_title(clean_line(text, TITLE_LENGTH))
            except StoreError as error:
                self._tell(error)
        return prepared.ids

    def record(self, events: Iterator[Event]) -> Generator[Event, None, None]:
        """Pass `events` on; the reply is on disk about once a second and when it ends, however it ends."""
        message = self.chat.conversation.add("assistant", "", status="partial")
        reply = GrowingReply(0, message, self._details())
        due = time.monotonic() + CHECKPOINT_PERIOD_S
        try:
            for event in events:
                reply.take(event)
                if isinstance(event, Finished):
                    self._save(reply.ended())
                elif reply.changed and time.monotonic() >= due:
                    self._save(reply.state())
                    reply.changed, due = False, time.monotonic() + CHECKPOINT_PERIOD_S
                yield event
        except Exception as error:
            if reply.finished is None:
                self._save(reply.failed(describe_error(error)))
            raise
        except BaseException:  # Ctrl+C, or the reader of the reply has gone
            if reply.finished is None:
                self._save(reply.stopped())
            raise

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {"parameters": sampling_json(self.settings.params)}
        details |= {"model": self._path.stem if self._path.is_file() else self._path.name}
        details |= {"backend": self._engine.backend}
        digest = known_sha256(self._path)
        if digest:
            details["model_sha256"] = digest
        if self.settings.system:
            details["system"] = self.settings.system
        return details

    def _save(self, message: Message) -> None:
        try:
            self.chat.append(message)
        except StoreError as error:
            self._tell(error)

    def _tell(self, error: StoreError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            say(str(error))
