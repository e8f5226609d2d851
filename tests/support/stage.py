"""A chat without a screen: a view that takes notes, and the loop that takes the engine's news."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.config.settings import Settings
from chat_app.engines.base import OpenEngine, Prompt, Source
from chat_app.engines.host import EngineHost
from chat_app.engines.local import open_local_engine
from chat_app.store.chats import ChatStore
from chat_app.store.database import Database
from llama_core.events import Event
from tests.support.fake_engine import FakeClock, factory_of


class NotesView:
    """A ChatView that writes down what it is told."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.shown: list[Message] = []
        self.updated: list[Message] = []
        self.notes: list[str] = []
        self.returned: list[str] = []
        self.queue: list[str] = []
        self.thoughts: dict[str, str] = {}
        self.trouble: list[str | None] = []
        self.load_failures: list[str] = []
        self.overflows: list[Prompt] = []
        self.events: list[Event] = []
        self.agree = True
        self.room = "drop"
        self.larger = 0
        self.summaries: list[str] = []
        self.edit: Callable[[str], str] = lambda text: text
        self.redrawn = 0
        self.ahead: list[str] = []

    def show_chat(self) -> None:
        self.redrawn += 1

    def show_message(self, message: Message) -> None:
        self.shown.append(message)

    def update_message(self, message: Message) -> None:
        self.updated.append(message)

    def add_text(self, message_id: str, text: str) -> None:
        self.texts[message_id] = self.texts.get(message_id, "") + text

    def add_thought(self, message_id: str, text: str, tokens: int, seconds: float) -> None:
        self.thoughts[message_id] = self.thoughts.get(message_id, "") + text

    def show_event(self, event: Event) -> None:
        self.events.append(event)

    def show_queue(self, prompts: list[str]) -> None:
        self.queue = list(prompts)

    def show_ahead(self, text: str) -> None:
        self.ahead.append(text)

    def show_trouble(self, text: str | None) -> None:
        self.trouble.append(text)

    def show_state(self) -> None:
        pass

    def show_load_failure(self, source: Source, text: str, instead: Source | None) -> None:
        self.load_failures.append(text if instead is None else f"{text} Then {instead.name}.")

    def note(self, text: str, severity: str = "information") -> None:
        self.notes.append(text)

    def give_back(self, text: str) -> None:
        self.returned.append(text)

    async def ask_overflow(self, prompt: Prompt, larger: int, files_n: int = 0) -> Any:
        self.overflows.append(prompt)
        self.larger, self.files_n = larger, files_n
        return self.room if self.agree else None

    async def review_summary(self, draft: Any) -> str | None:
        while not draft.done.is_set():
            await asyncio.sleep(0.001)
        self.summaries.append(draft.error or draft.text)
        return self.edit(draft.text) if not draft.error and self.agree else None


class Stage:
    """A controller, its engine, and the loop that takes its news as the screen would."""

    def __init__(
        self, home: Path, engine: Any, settings: Settings, open_engine: OpenEngine | None = None
    ) -> None:
        self.engine = engine
        self.view = NotesView()
        self.clock = FakeClock()
        self.store = ChatStore(Database(home / "chats.db"))
        self.tasks: set[asyncio.Task[Any]] = set()
        self.host = EngineHost(open_engine=open_engine or factory_of(engine))
        self.session = ChatController(self.view, self.host, settings, self.store, self.spawn, self.clock)

    @classmethod
    @contextlib.asynccontextmanager
    async def with_model(cls, home: Path, settings: Settings) -> AsyncIterator[Stage]:
        """One whose engine is this machine's, with the settings' model loaded."""
        stage = cls(home, None, settings, open_local_engine)
        stage.session.load_model(Path(settings.model))
        await stage.until(lambda: stage.session.model.info)
        yield stage
        await asyncio.to_thread(stage.host.close, 20)
        stage.session.chat.close()

    def begun(self, turns: Any) -> Iterator[str]:
        """A script whose stream stands still after the first piece, until the gate opens."""
        yield "begun"
        self.engine.gate.clear()
        yield " never"

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def until(self, true: Callable[[], object], timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while True:
                await self.session.take_news()
                if true():
                    return
                await asyncio.sleep(0.001)

    async def load(self) -> None:
        self.session.load_model(Path("model.gguf"))
        await self.until(lambda: self.session.model.info)

    async def say(self, text: str) -> Message:
        """Send a prompt and wait for its reply, then return it."""
        self.session.submit(text)
        await self.until(lambda: self.path() and self.path()[-1].role == "assistant" and self.idle())
        return self.path()[-1]

    def idle(self) -> bool:
        return not self.session.generating and not self.tasks and not self.session.queue

    def path(self) -> list[Message]:
        return self.session.path()

    def words(self) -> list[str]:
        return [message.content for message in self.path()]

    def on_disk(self) -> list[Message]:
        return self.store.read(self.session.chat.id).path()
