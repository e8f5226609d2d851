"""One chat at a time, and all that happens in it: sending, stopping, saving, moving between chats and models.

Screen, line chat and one-shot runs are each a `ChatView`; the engine sits behind its host, the disk behind
the saver. Three rules order it all. A prompt stays in the outbox until it is on disk; a message is on disk
before it is shown as sent; a reply that stops for any reason is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.attachments.attachment import AttachmentError, details_of, prompt_text
from chat_app.chat.attaching import Attaching
from chat_app.chat.branches import Branches
from chat_app.chat.comparing.comparisons import Comparisons
from chat_app.chat.conversation import Conversation, Message, with_user_turn
from chat_app.chat.files import ChatFiles
from chat_app.chat.fitting import Fitting
from chat_app.chat.inbox import Inbox
from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.open_chat import Attempt
from chat_app.chat.outbox import Outbox, Pending
from chat_app.chat.read_ahead import ReadAhead
from chat_app.chat.reopening import Reopening
from chat_app.chat.reply import GrowingReply, reply_details, seeded
from chat_app.chat.saver import ChatFile, Saver
from chat_app.chat.told_looks import ToldLooks
from chat_app.chat.view import ChatView
from chat_app.config.endpoints import model_label
from chat_app.config.settings import BY_NAME, Settings, with_advice
from chat_app.engines import news
from chat_app.engines.base import Prompt, PromptRequest, Source, Turn
from chat_app.engines.host import EngineHost
from chat_app.models.download.file_hash import file_sha256
from chat_app.store.chats import ChatStore
from chat_app.store.usage import Usage
from chat_app.text.titles import title_of
from llama_core.sampling.params import SamplingParams


class ChatController:
    """`spawn` runs a coroutine beside the caller: a worker of the screen, a task elsewhere. `branches` and
    `comparisons` hold other ways to a reply than sending, `attaching` reads and counts files, `ahead` has
    what is still typed read by the engine, `looks` keeps what engines elsewhere told of replies."""

    def __init__(
        self,
        view: ChatView,
        host: EngineHost,
        settings: Settings,
        store: ChatStore | None,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
        clock: Callable[[], float] = time.monotonic,
        model_hash: Callable[[Path], str | None] = file_sha256,
        kind: str = "chat",
    ) -> None:
        self.view = view
        self.host = host
        self.settings = settings
        self.metrics = PanelMetrics(clock)
        self.branches = Branches(self, spawn)
        self.comparisons = Comparisons(self, host)
        self.attaching = Attaching(self)
        self.ahead = ReadAhead(self, host)
        self.looks = ToldLooks()
        self.model = LoadedModel(host, view, self.metrics, spawn, model_hash)
        self.reply: GrowingReply | None = None
        self._files = ChatFiles(store, save=settings.save, kind=kind)
        self._spawn = spawn
        self._clock = clock
        self._outbox = Outbox()
        self._fitting = Fitting(self, host, self._outbox, self.attaching)
        self._reopening = Reopening(self, spawn)
        self._inbox = Inbox(self)
        self._attempt: Attempt | None = None
        self._writing = asyncio.Lock()  # a prompt and the beginning of its reply, or a change of chats
        self._leaving = 0
        self._ended = False
        self._news_turn = asyncio.Lock()
        self.chat: ChatFile = self._files.new(model_label(settings.model))
        self.saver = Saver(self.chat, view.show_trouble)

    # What there is.

    @property
    def conversation(self) -> Conversation:
        """The tree of the chat that is open."""
        return self.chat.conversation  # the transcript may replace it, so it is never kept

    def path(self) -> list[Message]:
        """The messages from the root to the tip, which are what is shown and sent."""
        return self.conversation.path()

    @property
    def generating(self) -> bool:
        """Whether a reply grows or is being prepared."""
        return self.reply is not None or self._attempt is not None

    @property
    def busy(self) -> bool:
        """Whether a prompt sent now would have to wait."""
        return self.model.info is None or self.generating or self._leaving > 0 or self._ended

    @property
    def idle(self) -> bool:
        """Whether nothing runs and no news are being taken in."""
        return not (self.generating or self._leaving or self._news_turn.locked())

    @property
    def queue(self) -> list[str]:
        """Prompts that wait, oldest first."""
        return self._outbox.waiting

    @property
    def unsent(self) -> list[str]:
        """Prompts that are not in the chat yet, the one under way included: they belong to the draft."""
        return self._outbox.texts

    # Sending.

    def submit(
        self,
        text: str,
        *,
        edits: str | None = None,
        raw: bool = False,
        files: Iterable[str] = (),
        mentions: bool = True,
    ) -> None:
        """Take a prompt: from here on it is in the outbox until it is in the chat.

        It is sent at once, or when the model and the reply before it are ready. `edits` names the message of
        which it is another wording; `raw` sends the text alone, without the chat and its template. `files`
        are attached, and with `mentions` what the text names with an `@`.
        """
        self.ahead.stop()
        self._outbox.add(Pending(text, edits, raw, tuple(files), mentions and not raw))
        if self.busy:
            self.view.show_queue(self.queue)
        self.send_next()

    def send_next(self) -> None:
        """Send the oldest prompt if nothing runs; where none waits, what is typed may be read ahead."""
        if self._outbox and not self.busy:
            pending, attempt = self._outbox.begin(), self._begin()
            self.view.show_queue(self.queue)
            self._spawn(self._send(pending, attempt))
        elif not self._outbox:
            self.ahead.consider()

    def take_back_queue(self, *, all: bool = False) -> None:
        """Return the waiting prompts to the prompt box, and with `all` the one under way."""
        text = self._outbox.take_back(all=all)
        if text:
            self.view.show_queue(self.queue)
            self.view.give_back(text)

    async def _send(self, pending: Pending, attempt: Attempt) -> None:
        try:
            await self._put(pending, attempt)
        except Exception:  # whoever spawned this tells it; the prompt goes back first
            if self._attempt is attempt:
                self.abandon()
            raise

    async def _put(self, pending: Pending, attempt: Attempt) -> None:
        """A prompt into the chat, and its reply under way."""
        try:
            found = await self.attaching.read(pending)
        except AttachmentError as error:
            if not attempt.abandoned:
                self.view.note(str(error), "error")
                self.abandon()
            return
        if attempt.abandoned:
            return
        for note in found.notes:
            self.view.note(note, "warning")
        attached = found.attachments
        if pending.raw and self.settings.system:
            self.view.note("A raw prompt is sent alone: the system prompt is no part of it.", "warning")
        parent, text = self._parent(pending.edits), prompt_text(pending.text, attached)
        alone = self._request(with_user_turn((), text), raw=True) if pending.raw else None
        request = alone or self.beginning_of(text, pending.edits)
        prompt = await self._fitting.prepare(attempt, request, parent, attached)
        if prompt is None:
            return
        async with self._writing:
            if attempt.abandoned:
                return
            x = details_of(attached)
            message = self.conversation.add("user", pending.text, parent=parent, x=x)
            await self.saver.remember(model_label(self.settings.model))
            await self.saver.append(message)  # where the disk fails, a banner says so and the chat goes on
            self._outbox.sent()
            if pending.edits is None:
                self.view.show_message(message)
            else:
                self.view.show_chat()
            if message.parent is None and not self.conversation.title:
                title = title_of(pending.text) or title_of(" ".join(one.name for one in attached))
                await self.saver.set_title(title)
            self.start(attempt, self.conversation.add("assistant", "", status="partial"), prompt)

    def beginning_of(self, content: str, edits: str | None) -> PromptRequest:
        """What is asked where a message of these words is sent, in the place of `edits` if given."""
        return self._request(with_user_turn(self._turns(self._parent(edits)), content))

    def _parent(self, edits: str | None) -> str | None:
        """The message behind which a new one stands."""
        return self.conversation.tip if edits is None else self.conversation.get(edits).parent

    def _turns(self, upto: str | None, *, continue_last: bool = False) -> list[Turn]:
        """What the model is to see of the path to `upto` (None: nothing but the system prompt)."""
        if upto is not None:
            return self.conversation.turns(self.settings.system, upto, continue_last=continue_last)
        return [Turn("system", self.settings.system)] if self.settings.system else []

    def begin(self) -> Attempt | None:
        """Take the engine for another reply; None, and a word to the user, where it is busy."""
        if self.generating or self._leaving:
            self.view.note("A reply is being written; stop it first.", "warning")
            return None
        if self.model.info is None:
            self.view.note("There is no model loaded that could answer.", "warning")
            return None
        return self._begin()

    def _begin(self) -> Attempt:
        self._attempt = attempt = Attempt()
        self.view.show_state()
        return attempt

    async def prepare(
        self, attempt: Attempt, upto: str | None, *, continue_last: bool = False
    ) -> Prompt | None:
        """The prompt of the path to `upto`; None, and the attempt over, when it is not to be sent."""
        turns = self._turns(upto, continue_last=continue_last)
        request = self._request(turns, continue_last=continue_last)
        return await self._fitting.prepare(attempt, request, upto)

    def _request(
        self, turns: Iterable[Turn], *, continue_last: bool = False, raw: bool = False
    ) -> PromptRequest:
        """What this chat asks of the engine."""
        chat_id = "" if raw else self._files.kept_id(self.chat)
        return PromptRequest(tuple(turns), self.settings.params, continue_last, raw, chat_id)

    async def compact(self) -> None:
        """Summarise the older turns of this chat, now."""
        await self._fitting.compact()

    def abandon(self) -> bool:
        """Give the attempt up, if there is one that can be. Its prompt and those behind it go back."""
        if self._attempt is None or self._writing.locked():
            return False
        self._attempt.abandoned = True
        self._attempt = None
        self.take_back_queue(all=True)
        self.view.show_state()
        self.reload_if_due()
        return True

    def put_off(self, attempt: Attempt) -> None:
        """Give an attempt up; its prompt stays the first of those that wait."""
        attempt.abandoned = True
        self._attempt = None
        self._outbox.postpone()

    def start(
        self,
        attempt: Attempt,
        message: Message,
        prompt: Prompt,
        *,
        params: SamplingParams | None = None,
    ) -> None:
        """Let the engine answer. `params`: for this reply, in place of the settings'."""
        params = seeded(params or self.settings.params, self.model.info)
        if attempt.abandoned:
            return
        self._attempt = None
        self.metrics.started()
        request_id = self.host.reply(prompt, params)
        model = self.model
        details = reply_details(self.settings, params, model.info, model.sha256, prompt, message.parent)
        message = replace(message, x={**message.x, **details})
        self.reply = GrowingReply(
            request_id, message, details, prompt=prompt, seed=params.seed, saved_at=self._clock()
        )
        self.view.show_message(message)
        self.view.show_state()
        if attempt.stop_at_once:
            self.stop()

    def finish_attempt(self, attempt: Attempt) -> None:
        """The attempt is over without a reply."""
        if self._attempt is attempt:
            self._attempt = None
            self.view.show_state()
            self._go_on()

    # Stopping.

    def stop(self) -> bool:
        """Ask the engine to stop; what is written is kept. False when nothing runs. A prompt still being
        prepared goes back into the prompt box."""
        if self.reply is not None:
            self.host.cancel(self.reply.request_id)
            return True
        if self._attempt is None:
            return False
        if not self.abandon():
            self._attempt.stop_at_once = True
        return True

    def answer_now(self) -> None:
        """End the thought of the reply under way, so that the answer begins; nothing is computed anew."""
        info = self.model.info
        if self.reply is None:
            self.view.note("No reply is being written.", "warning")
        elif info is None or not info.capabilities.thinks:
            self.view.note("This model's thoughts cannot be told apart, so none can be ended.", "warning")
        elif self.reply.parts:
            self.view.note("The answer has begun already.")
        else:
            self.host.answer_now(self.reply.request_id)

    async def stop_and_save(self) -> None:
        """Stop and keep the reply without waiting for the engine's last word."""
        if self.reply is None:
            self.stop()
            return
        self.host.cancel(self.reply.request_id)
        reply, self.reply = self.reply, None
        await self._keep(reply.stopped())

    def save_now(self) -> None:
        """The process ends: keep the partial reply from this thread, and let go of the file. A prompt that
        comes from now on stays in the outbox."""
        self._ended = True
        self.comparisons.save_now()
        if self.reply is not None:
            reply, self.reply = self.reply, None
            self.host.cancel()
            self.saver.save_now(reply.stopped())
        self.chat.close()

    # Chats.

    def usage(self) -> list[Usage]:
        """What was computed in all stored chats, by month and model. Raises StoreError."""
        return self._files.usage()

    async def new_chat(self) -> None:
        """Leave this chat, once what was sent before is in it, and start an empty one."""
        await self._leave(lambda: self._files.new(model_label(self.settings.model)))

    async def open_chat(self, chat_id: str, *, chosen: Collection[str] = ()) -> None:
        """Continue a stored chat, with the model and the parameters that it was held with, but for what was
        `chosen` (see `recall`). Raises StoreError, the present chat then untouched."""
        if chat_id == self.chat.id:
            return
        await self._leave(lambda: self._files.open(chat_id))
        for warning in self.chat.warnings:
            self.view.note(warning, "warning")
        self._reopening.recall(chosen)
        self._restore()

    def _restore(self) -> None:
        """Bring back what the engine keeps of this chat."""
        upto = self.conversation.tip
        if upto is not None:
            self._reopening.restore(self._request(self._turns(upto)))

    async def _leave(self, open_next: Callable[[], ChatFile]) -> None:
        """Go to another chat. Prompts typed meanwhile wait for it."""
        self._leaving += 1
        self.ahead.stop()
        try:
            if not self.abandon():
                self.take_back_queue()  # they were meant for the chat that is left
            async with self._writing:
                chat = await asyncio.to_thread(open_next)
                await self.stop_and_save()
                left, self.chat = self.saver, chat
                self.looks.forget()
                self.saver = Saver(chat, self.view.show_trouble)
                self._fitting.forget()
                self.metrics.new_chat()
                self.view.show_trouble(None)
                self.view.show_chat()
                await left.close()
        finally:
            self._leaving -= 1
            self.view.show_state()
            self._go_on()

    # The model and the settings.

    def load_model(self, source: Source) -> None:
        """Load another model; what waits is sent when it is there."""
        if self._attempt is not None and not self._writing.locked() and self._outbox.texts:
            self.put_off(self._attempt)
        self.stop()
        self.model.load(source, self.settings)

    def change_settings(self, settings: Settings) -> None:
        """New parameters count from the next reply on; another context size needs the model anew."""
        again = settings.ctx_size != self.settings.ctx_size
        self.settings = settings
        self.view.show_state()
        if again:
            self.model.want_reload()
            self.reload_if_due()

    def reload_if_due(self) -> bool:
        """Load what is due, the model anew or the chat's own, but never under a reply."""
        source = None if self.generating else self.model.take_reload()
        if source is not None:
            self.load_model(source)
        return source is not None

    def _go_on(self) -> None:
        """What ran is over: load what is due, or else send what waits."""
        if not self.reload_if_due():
            self.send_next()

    def set_system(self, text: str) -> None:
        """Another system prompt; the empty text removes it."""
        self.change_settings(BY_NAME["system"].put(self.settings, text))
        what = "set" if text else "removed (the model's template may add its own)"
        self.view.note(f"The system prompt is {what}; it counts from the next message on.")

    def reset_cache(self) -> None:
        """Empty the KV cache; the transcript stays. A reply that grows is finished first."""
        self.ahead.stop()
        self.model.reset_cache(generating=self.generating)

    # News from the engine.

    async def take_news(self) -> bool:
        """Take in what the host has to tell; False where that was nothing. Call it often: it also saves the
        growing reply each second."""
        async with self._news_turn:
            any_came = await self._inbox.take(self.host.drain())
            await self._checkpoint()
        return any_came

    def engine_ready(self, ready: news.EngineReady) -> None:
        """A model is loaded: what waits for it is sent."""
        self.ahead.stop()
        self.settings = with_advice(self.settings, ready.info.advice)
        self.model.ready(ready.info, ready.load_s, self.settings.ctx_size)
        self._restore()
        self.branches.retry.ready()
        self._go_on()

    def load_failed(self, failed: news.LoadFailed) -> None:
        """No model is loaded now; the chat's own comes back where it only made room for another."""
        own = self.branches.retry.failed()
        self.model.failed(failed, own)
        if own is not None:
            self.load_model(own)

    async def end_reply(self, message: Message) -> None:
        """The reply has its last state."""
        reply, self.reply = self.reply, None
        if reply is not None:
            self.looks.add(message.id, reply, self.looks.of(message.id))
        await self._keep(message)
        self.model.answered(message.x.get("timings"))
        self.view.show_state()
        self._go_on()

    async def _keep(self, message: Message) -> None:
        """A reply's last state: in the tree, on disk, on the screen."""
        self.conversation.update(message)
        await self.saver.append(message)
        self.view.update_message(message)

    async def _checkpoint(self) -> None:
        state = self.reply.checkpoint(self._clock()) if self.reply is not None else None
        if state is not None:
            self.conversation.update(state)
            await self.saver.checkpoint(state)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of `question(engine)`, computed between two requests. LookupError without a model."""
        return await asyncio.wrap_future(self.host.ask(question))
