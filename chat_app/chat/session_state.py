"""What a chat's session knows: the chat, the model, the reply under way; and how models come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.chat.chat_view import ChatView
from chat_app.chat.conversation import Conversation, Message
from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.reply import GrowingReply, sampling_json
from chat_app.chat.saver import ChatFile, MemoryTranscript, Saver
from chat_app.config.settings import Settings
from chat_app.engines import messages as news
from chat_app.engines.bridge import EngineBridge
from chat_app.models.download.file_hash import file_sha256
from chat_app.store.chats import ChatStore


class SessionState:
    """`spawn` runs a coroutine beside the caller (a worker of the screen, a task in tests)."""

    def __init__(
        self,
        view: ChatView,
        bridge: EngineBridge,
        settings: Settings,
        store: ChatStore | None,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = view
        self.bridge = bridge
        self.settings = settings
        self.metrics = PanelMetrics(clock)
        self.info: news.EngineInfo | None = None
        self.loading: Path | None = None
        self.load_s: float | None = None
        self.model_sha256 = ""
        self.queue: list[str] = []
        self.reply: GrowingReply | None = None
        self.logprobs: dict[str, list[float]] = {}  # of each reply written here, for the inspector
        self._store = store if settings.save else None
        self._spawn = spawn
        self._clock = clock
        self._preparing = False
        self._stop_asked = False  # while a prompt was prepared
        self._reload_due = False  # another context size was chosen while a reply was written
        self._tell_context = False
        self._news_turn = asyncio.Lock()
        self._drop_oldest = False
        self._checkpoint_due = 0.0
        self.chat: ChatFile = self._new_file()
        self.saver = Saver(self.chat, view.show_trouble)

    # What there is.

    @property
    def conversation(self) -> Conversation:
        return self.chat.conversation  # the transcript may replace it, so it is never kept

    def path(self) -> list[Message]:
        return self.conversation.path()

    @property
    def busy(self) -> bool:
        """Whether a prompt sent now would have to wait."""
        return self.info is None or self.reply is not None or self._preparing

    @property
    def generating(self) -> bool:
        return self.reply is not None or self._preparing

    def _new_file(self) -> ChatFile:
        if self._store is None:
            return MemoryTranscript()
        return self._store.create(model=Path(self.settings.model).name)

    # Models.

    def load_model(self, path: Path) -> None:
        self.stop()
        self.loading, self.info = path, None
        self.metrics.engine_gone()
        self.metrics.loading()
        self.bridge.load(path, self.settings)
        self.view.show_state()

    async def _find_hash(self, path: Path) -> None:
        """Which file it was, for the transcript; computed once for a file and remembered."""
        with contextlib.suppress(OSError):  # a folder of files, or gone already: the name must do
            digest = await asyncio.to_thread(file_sha256, path)
            if self.info is not None and self.info.path == path:
                self.model_sha256 = digest

    def change_settings(self, settings: Settings) -> None:
        """New parameters count from the next reply on; another context size needs the model anew."""
        path = self.info.path if self.info is not None else None
        again = settings.ctx_size != self.settings.ctx_size
        self.settings = settings
        if again and path is not None:
            self._tell_context = self._reload_due = True
            self.reload_if_due()

    def reload_if_due(self) -> bool:
        """Load the model anew for another context size, but never under a reply."""
        if not self._reload_due or self.generating or self.info is None:
            return False
        self._reload_due = False
        self.load_model(self.info.path)
        return True

    def set_system(self, text: str) -> None:
        self.change_settings(replace(self.settings, system=text))
        if text:
            self.view.note("The system prompt is set; it counts from the next message on.")
        else:
            self.view.note(
                "The system prompt is removed: from the next message on none is sent "
                "(the model's template may add its own)."
            )

    def reset_cache(self) -> None:
        """Empty the KV cache; the transcript stays. The next reply computes the whole prompt again."""
        if self.info is None:
            self.view.note("There is no model loaded, so there is no cache to reset.", "warning")
            return
        self.stop()
        self.bridge.reset()

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {"parameters": sampling_json(self.settings.params)}
        if self.info is not None:
            details |= {"model": self.info.name, "backend": self.info.backend}
            if self.model_sha256:
                details["model_sha256"] = self.model_sha256
        if self.settings.system:
            details["system"] = self.settings.system
        return details

    def stop(self) -> bool:
        """Ask the engine to stop; what is written so far is kept. False when nothing runs.

        A prompt that is still being prepared is not sent; its text goes back into the prompt box.
        """
        if self.reply is None:
            self._stop_asked = self._preparing
            return self._preparing
        self.bridge.cancel(self.reply.request_id)
        return True
