"""What happens in a chat: sending, stopping, switching chats. Knows no widget.

The screen is a `ChatView`; the engine sits behind the bridge, the disk behind the saver. One rule orders it
all: a message is on disk before it is shown as sent, and a reply that stops for any reason is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chat_app.chat import prompting
from chat_app.chat.conversation import Message
from chat_app.chat.prompting import Prepared
from chat_app.chat.reply import GrowingReply
from chat_app.chat.saver import ChatFile, Saver
from chat_app.chat.session_branches import Branches
from chat_app.chat.session_news import take_news
from chat_app.chat.session_state import SessionState
from chat_app.engines import messages as news
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean_line

CHECKPOINT_PERIOD_S = 1.0
TITLE_LENGTH = 60
LOGPROBS_KEPT = 64  # replies whose log-probabilities the inspector can still tint


class ChatSession(SessionState):
    """One for the whole run of the app; `branches` holds the other ways to a reply."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `SessionState`."""
        super().__init__(*args, **kwargs)
        self.branches = Branches(self)

    def model_ready(self, info: news.EngineInfo, load_s: float) -> None:
        """A model is loaded: prompts that wait for it are sent."""
        self.info, self.loading, self.load_s, self.model_sha256 = info, None, load_s, ""
        self.metrics.engine_ready(info.backend, info.threads, info.ctx_size)
        self._spawn(self._find_hash(info.path))
        self._reload_due = False
        if self._tell_context:
            self._tell_context = False
            self._note_context(info.ctx_size)
        self.view.show_state()
        self.send_next()

    def _note_context(self, size: int) -> None:
        wanted = self.settings.ctx_size
        most = "" if wanted in (None, size) else f", not {wanted:,}: this model has no more"
        self.view.note(f"The context holds {size:,} tokens now{most}.")

    # Chats.

    async def new_chat(self) -> None:
        await self._leave(self._new_file())

    async def open_chat(self, chat_id: str) -> None:
        """Continue a chat from disk. Raises StoreError, the present chat then untouched."""
        if self._store is None or chat_id == self.chat.id:
            return
        await self._leave(await asyncio.to_thread(self._store.open, chat_id))
        for warning in self.chat.warnings:
            self.view.note(warning, "warning")

    async def _leave(self, chat: ChatFile) -> None:
        await self.stop_and_save()
        old, self.chat = self.chat, chat
        self.logprobs.clear()
        self.saver = Saver(chat, self.view.show_trouble)
        self._drop_oldest = False
        self._clear_numbers()
        self.view.show_trouble(None)
        self.view.show_chat()
        await asyncio.to_thread(old.close)

    def _clear_numbers(self) -> None:
        """Another chat has computed nothing yet; the model's own numbers stay."""
        info, shot = self.info, self.metrics.snapshot()
        if info is None:
            return
        self.metrics.engine_ready(info.backend, info.threads, info.ctx_size)
        if shot.kv_bytes is not None:
            from llama_core.backends.base import (
                MemoryReport,  # not before an engine is there: the start is quick
            )

            sizes = (shot.weights_bytes or 0, shot.kv_bytes, 0, shot.scratch_bytes or 0)
            self.metrics.memory(MemoryReport(*sizes, 0, shot.resident_bytes or 0))

    # Sending.

    async def submit(self, text: str) -> None:
        """Send a prompt, or queue it while the engine is busy or still loading."""
        if self.busy or self.queue:
            self.queue.append(text)
            self.view.show_queue(self.queue)
            return
        await self._send(text)

    def take_back_queue(self) -> None:
        """Return queued prompts to the prompt box."""
        if self.queue:
            text = "\n\n".join(self.queue)
            self.queue.clear()
            self.view.show_queue(self.queue)
            self.view.give_back(text)

    async def _send(self, text: str) -> None:
        chat = self.chat
        turns = prompting.with_user_turn(self.conversation.to_messages(self.settings.system), text)
        prepared = await self.prepare(turns)
        if prepared is None or self.chat is not chat:
            self.view.give_back(text)
            return
        message = self.conversation.add("user", text)
        await self.saver.append(message)  # where the disk fails, a banner says so and the chat goes on
        self.view.show_message(message)
        if message.parent is None and not self.conversation.title:
            await self.saver.set_title(clean_line(text, TITLE_LENGTH))
        self.start(self.conversation.add("assistant", "", status="partial"), prepared)

    async def prepare(self, turns: list[dict[str, str]], *, continue_last: bool = False) -> Prepared | None:
        """The prompt's ids, once it fits; None when it cannot or shall not be sent."""
        self._preparing, self._stop_asked = True, False
        self.view.show_state()
        prepared: Prepared | None = None
        try:
            prepared = await self._ask(turns, continue_last)
            if not prepared.fits and not self._stop_asked:
                prepared = await self._shorten(prepared, continue_last)
        except Exception as error:  # noqa: BLE001 - a template or tokenizer that fails must not end the app
            prepared = None
            self.view.note(describe_error(error), "error")
        finally:
            self._preparing = False
            self.view.show_state()
        if prepared is None or self._stop_asked:
            self.take_back_queue()  # no reply's end will send it
            self.reload_if_due()
            return None
        return prepared

    async def _shorten(self, prepared: Prepared, continue_last: bool) -> Prepared | None:
        """The context is full: leave out the oldest turns if the user agrees (once for a chat)."""
        if not (self._drop_oldest and prepared.can_drop) and not await self.view.ask_overflow(prepared.plan):
            return None
        self._drop_oldest = True
        shorter = await self._ask(prepared.remaining(), continue_last)
        if not shorter.fits:
            self.view.note("The prompt is too long even without the earlier turns.", "error")
            return None
        dropped = len(prepared.plan.drop)
        what = "oldest message was" if dropped == 1 else f"{dropped} oldest messages were"
        self.view.note(f"The context is full: the {what} left out.", "warning")
        return shorter

    async def _ask(self, turns: list[dict[str, str]], continue_last: bool) -> Prepared:
        params = self.settings.params
        question = self.bridge.ask(
            lambda engine: prompting.prepare(engine, turns, params, continue_last=continue_last)
        )
        return await asyncio.wrap_future(question)

    def start(self, message: Message, prepared: Prepared, *, start_ids: Iterable[int] = ()) -> None:
        self.metrics.started()
        self._checkpoint_due = self._clock() + CHECKPOINT_PERIOD_S
        request_id = self.bridge.reply(prompting.generate(prepared.ids, self.settings.params))
        details = self._details()
        message = replace(message, x={**message.x, **details})
        self.reply = GrowingReply(request_id, message, details, tuple(start_ids))
        self.view.show_message(message)
        self.view.show_state()

    # Stopping.

    async def stop_and_save(self) -> None:
        """Stop and keep the reply without waiting for the engine's last word."""
        if self.reply is not None:
            self.bridge.cancel(self.reply.request_id)
            reply, self.reply = self.reply, None
            await self._keep(reply.stopped())
        else:
            self.stop()

    def save_now(self) -> None:
        """The process ends: keep the partial reply from this thread, and let go of the file."""
        if self.reply is not None:
            reply, self.reply = self.reply, None
            self.bridge.cancel()
            self.saver.save_now(reply.stopped())
        self.chat.close()

    # News from the engine.

    async def on_news(self, items: list[news.News]) -> None:
        """What the bridge's queue held. Call it often: it also saves the growing reply each second."""
        async with self._news_turn:
            await take_news(self, items)
            await self._checkpoint()

    async def end_reply(self, message: Message) -> None:
        """The reply has its last state."""
        if self.reply is not None:
            self.logprobs[message.id] = self.reply.logprobs()
            if len(self.logprobs) > LOGPROBS_KEPT:
                del self.logprobs[next(iter(self.logprobs))]
        self.reply = None
        await self._keep(message)
        self.view.show_state()
        if not self.reload_if_due():
            self.send_next()

    async def _keep(self, message: Message) -> None:
        """A reply's last state: in the tree, on disk, on the screen."""
        self.conversation.update(message)
        await self.saver.append(message)
        self.view.update_message(message)

    def send_next(self) -> None:
        """Send the oldest queued prompt if nothing runs."""
        if self.queue and not self.busy:
            text = self.queue.pop(0)
            self.view.show_queue(self.queue)
            self._spawn(self._send(text))

    async def _checkpoint(self) -> None:
        reply = self.reply
        if reply is not None and reply.changed and self._clock() >= self._checkpoint_due:
            self._checkpoint_due = self._clock() + CHECKPOINT_PERIOD_S
            reply.changed = False
            state = reply.state()
            self.conversation.update(state)
            await self.saver.checkpoint(state)
