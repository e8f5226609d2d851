"""One chat at a time, and all that happens in it: sending, stopping, saving, moving between chats and models.

It serves the screen, the line chat and one-shot runs alike: each is a `ChatView`. The engine sits behind its
host, the disk behind the saver. Three rules order it all. A prompt stays in the outbox until it is on disk; a
message is on disk before it is shown as sent; a reply that stops for any reason is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.attachments.attachment import (
    Attachment,
    AttachmentError,
    attachments_of,
    details_of,
    prompt_text,
)
from chat_app.attachments.finding import attach
from chat_app.attachments.mentions import mentions
from chat_app.attachments.sizes import Sizes, beginnings, sizes_of
from chat_app.chat.branches import Attempt, Branches
from chat_app.chat.compaction import Compaction
from chat_app.chat.conversation import Conversation, Message, segments
from chat_app.chat.files import ChatFiles
from chat_app.chat.inspection import TokenLook, told_looks
from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.outbox import Outbox, Pending
from chat_app.chat.prompter import Prompter
from chat_app.chat.prompts import with_user_turn
from chat_app.chat.recall import recall
from chat_app.chat.reply import GrowingReply, ScoredText, reply_details
from chat_app.chat.saver import ChatFile, Saver
from chat_app.chat.view import ChatView
from chat_app.config.endpoints import model_label
from chat_app.config.settings import Settings, with_advice
from chat_app.engines import news
from chat_app.engines.base import Engine, Prompt, PromptRequest, Restored, Source, Turn
from chat_app.engines.host import EngineHost
from chat_app.models.download.file_hash import file_sha256
from chat_app.store.chats import ChatStore
from chat_app.store.usage import Usage
from chat_app.text.errors import describe_error
from chat_app.text.formatting import duration
from chat_app.text.sanitize import clean_line
from llama_core.events import Finished, PrefillProgress, TextDelta
from llama_core.sampling.params import SamplingParams

_log = logging.getLogger(__name__)

CHECKPOINT_PERIOD_S = 1.0
TITLE_LENGTH = 60
LOGPROBS_KEPT = 64  # replies that can still be tinted


class ChatController:
    """`spawn` runs a coroutine beside the caller: a worker of the screen, a task elsewhere. `branches` holds
    the other ways to a reply than sending."""

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
        self.branches = Branches(self)
        self._compaction = Compaction(self)
        self.model = LoadedModel(host, view, self.metrics, spawn, model_hash)
        self.reply: GrowingReply | None = None
        self.logprobs: dict[str, list[float]] = {}  # of each reply written here, for the inspector
        self.scored: dict[str, tuple[ScoredText, ...]] = {}  # the same by the text that is shown
        self.looks: dict[str, tuple[TokenLook, ...]] = {}  # at those of an engine elsewhere that tells them
        self._files = ChatFiles(store, save=settings.save, kind=kind)
        self._spawn = spawn
        self._clock = clock
        self._outbox = Outbox()
        self._prompter = Prompter(host, view)
        self._attempt: Attempt | None = None
        self._writing = asyncio.Lock()  # a prompt and the beginning of its reply, or a change of chats
        self._leaving = 0
        self._ended = False
        self._news_turn = asyncio.Lock()
        self._checkpoint_due = 0.0
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
    def cut(self) -> str | None:
        """The first message that the last reply's prompt held, where those above it were left out."""
        reply = next((one for one in reversed(self.path()) if one.role == "assistant"), None)
        first = reply.x.get("sees_from") if reply is not None else None
        return first if isinstance(first, str) and first else None

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
        self._outbox.add(Pending(text, edits, raw, tuple(files), mentions and not raw))
        if self.busy:
            self.view.show_queue(self.queue)
        self.send_next()

    def send_next(self) -> None:
        """Send the oldest prompt if nothing runs."""
        if self._outbox and not self.busy:
            pending, attempt = self._outbox.begin(), self._begin()
            self.view.show_queue(self.queue)
            self._spawn(self._send(pending, attempt))

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
                self._abandon()
            raise

    async def _put(self, pending: Pending, attempt: Attempt) -> None:
        """A prompt into the chat, and its reply under way."""
        attached = await self._attached(attempt, pending)
        if attached is None:
            return
        conversation = self.conversation
        if pending.raw and self.settings.system:
            self.view.note("A raw prompt is sent alone: the system prompt is no part of it.", "warning")
        parent = conversation.tip if pending.edits is None else conversation.get(pending.edits).parent
        text = prompt_text(pending.text, attached)
        turns = with_user_turn(() if pending.raw else self._turns(parent), text)
        request = self._request(turns, raw=pending.raw)
        prompt = await self._prepare(attempt, request, parent, attached)
        if prompt is None:
            return
        async with self._writing:
            if attempt.abandoned:
                return
            x = details_of(attached)
            message = self.conversation.add("user", pending.text, parent=parent, x=x)
            await self.saver.append(message)  # where the disk fails, a banner says so and the chat goes on
            self._outbox.sent()
            if pending.edits is None:
                self.view.show_message(message)
            else:
                self.view.show_chat()
            if message.parent is None and not self.conversation.title:
                title = pending.text.strip() or " ".join(one.name for one in attached)
                await self.saver.set_title(clean_line(title, TITLE_LENGTH))
            self.start(attempt, self.conversation.add("assistant", "", status="partial"), prompt)

    async def _attached(self, attempt: Attempt, pending: Pending) -> tuple[Attachment, ...] | None:
        """What goes with a prompt, read now; None, and the attempt over, where something cannot be read.

        Another wording keeps what its message has, as it was read then, unless its mention is gone.
        """
        if pending.attached is not None:
            return pending.attached
        named = mentions(pending.text) if pending.mentions else []
        before = () if pending.edits is None else attachments_of(self.conversation.get(pending.edits).x)
        kept = tuple(one for one in before if not one.typed or one.typed in named)
        new = [name for name in named if name not in {one.typed for one in kept}]
        if not (pending.files or new):
            return kept
        try:
            files = await asyncio.to_thread(attach, pending.files)
            mentioned = await asyncio.to_thread(attach, new, typed=True)
        except AttachmentError as error:
            if not attempt.abandoned:
                self.view.note(str(error), "error")
                self._abandon()
            return None
        if attempt.abandoned:
            return None
        for note in (*files.notes, *mentioned.notes):
            self.view.note(note, "warning")
        each = {one.path: one for one in (*mentioned.attachments, *files.attachments, *kept)}
        return tuple(each.values())

    def _turns(self, upto: str | None, *, continue_last: bool = False) -> list[Turn]:
        """What the model is to see of the path to `upto` (None: nothing but the system prompt)."""
        if upto is not None:
            return self.conversation.turns(self.settings.system, upto, continue_last=continue_last)
        return [Turn("system", self.settings.system)] if self.settings.system else []

    def begin(self) -> Attempt | None:
        """Take the engine for another reply; None, and a word to the user, where it is busy."""
        if self.generating or self._leaving:
            self.view.note("A reply is being written; press Esc to stop it first.", "warning")
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
        return await self._prepare(attempt, request, upto)

    def _request(
        self, turns: Iterable[Turn], *, continue_last: bool = False, raw: bool = False
    ) -> PromptRequest:
        """What this chat asks of the engine."""
        chat_id = "" if raw else self._files.kept_id(self.chat)
        return PromptRequest(tuple(turns), self.settings.params, continue_last, raw, chat_id)

    async def _prepare(
        self,
        attempt: Attempt,
        request: PromptRequest,
        upto: str | None,
        attached: Sequence[Attachment] = (),
    ) -> Prompt | None:
        try:
            prompt = await self._prompter.prepare(request, self._larger, len(attached))
        except Exception as error:  # noqa: BLE001 - a template or tokenizer that fails must not end the app
            prompt = None
            if not attempt.abandoned:
                self.view.note(describe_error(error), "error")
        if attempt.abandoned:
            return None
        if isinstance(prompt, Prompt):
            return prompt
        if prompt is None:
            self._abandon()
        elif prompt.way == "raise":
            self._raise_context(attempt, prompt.ctx_size)
        elif prompt.way == "part":
            await self._send_beginnings(attempt, attached, prompt.over_n)
        else:
            await self._compact(attempt, upto, request)
        return None

    async def _send_beginnings(self, attempt: Attempt, attached: Sequence[Attachment], over_n: int) -> None:
        """Send the prompt under way again, its files shortened by so many tokens in all."""
        shorter = beginnings(attached, (await self.sizes(attached)).total.tokens, over_n)
        if attempt.abandoned:
            return
        if shorter is None:
            self.view.note("Even without the files there is not enough room.", "error")
            self._abandon()
            return
        self._outbox.shorten(shorter)
        self._outbox.postpone()
        self.view.note("Only the beginning of what is attached is sent; the record says so.", "warning")
        self.finish_attempt(attempt)

    def _larger(self, tokens: int) -> int:
        """A context for so many tokens, the present one doubled and doubled; 0 where the model has none."""
        info = self.model.info
        if info is None or tokens > info.max_ctx_size or info.ctx_size < 1:
            return 0
        size = info.ctx_size
        while size < tokens:
            size *= 2
        return min(size, info.max_ctx_size)

    def _raise_context(self, attempt: Attempt, ctx_size: int) -> None:
        """Load the model with a larger context; the prompt under way is sent when it is there."""
        waits = bool(self._outbox.texts)
        attempt.abandoned = True
        self._attempt = None
        self._outbox.postpone()
        self.change_settings(replace(self.settings, ctx_size=ctx_size))
        what = "your prompt is sent then" if waits else "ask again when it is ready"
        self.view.note(f"The model is loaded with a context of {ctx_size:,} tokens; {what}.")

    async def compact(self) -> None:
        """Summarise the older turns of this chat, now."""
        attempt = self.begin()
        if attempt is None:
            return
        try:
            await self._compaction.run(attempt, self.conversation.tip)
        finally:
            self.finish_attempt(attempt)

    async def _compact(self, attempt: Attempt, upto: str | None, request: PromptRequest) -> None:
        """Make room by a summary; then the prompt under way is sent, on the new branch."""
        try:
            pending = request.turns[-1:] if self._outbox.texts else ()
            compacted = await self._compaction.run(attempt, upto, pending)
        except Exception:
            self._abandon()
            raise
        if not compacted:
            self._abandon()
            return
        self._outbox.postpone(at_the_tip=True)
        self.finish_attempt(attempt)

    def _abandon(self) -> bool:
        """Give the attempt up, if there is one that can be. Its prompt and those behind it go back."""
        if self._attempt is None or self._writing.locked():
            return False
        self._attempt.abandoned = True
        self._attempt = None
        self.take_back_queue(all=True)
        self.view.show_state()
        self.reload_if_due()
        return True

    def start(
        self,
        attempt: Attempt,
        message: Message,
        prompt: Prompt,
        *,
        start_ids: Iterable[int] = (),
        params: SamplingParams | None = None,
    ) -> None:
        """Let the engine answer. `start_ids`: the reply's tokens that stand there already; `params`: for this
        reply, in place of the settings'."""
        params = params or self.settings.params
        if attempt.abandoned:
            return
        self._attempt = None
        self.metrics.started()
        self._checkpoint_due = self._clock() + CHECKPOINT_PERIOD_S
        request_id = self.host.reply(prompt, params)
        model = self.model
        details = reply_details(self.settings, params, model.info, model.sha256, prompt, message.parent)
        message = replace(message, x={**message.x, **details})
        self.reply = GrowingReply(request_id, message, details, tuple(start_ids), prompt=prompt)
        self.view.show_message(message)
        self.view.show_state()
        if attempt.stop_at_once:
            self.stop()

    def finish_attempt(self, attempt: Attempt) -> None:
        """The attempt is over without a reply."""
        if self._attempt is attempt:
            self._attempt = None
            self.view.show_state()
            self.send_next()

    # Stopping.

    def stop(self) -> bool:
        """Ask the engine to stop; what is written so far is kept. False when nothing runs.

        A prompt that is still being prepared is not sent; its text goes back into the prompt box.
        """
        if self.reply is not None:
            self.host.cancel(self.reply.request_id)
            return True
        if self._attempt is None:
            return False
        if not self._abandon():
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
        self._recall(chosen)
        self._bring_back()

    def _recall(self, chosen: Collection[str]) -> None:
        before = self.settings
        self.settings = recall(self.conversation, before, chosen)
        for notice in self.settings.notices[len(before.notices) :]:
            self.view.note(notice, "warning")
        if self.settings.model == before.model:
            return
        path, loaded = Path(self.settings.model), self.model.info
        if path != self.model.loading and (loaded is None or path != loaded.path):
            self.view.note(f"This chat was held with {path.name}, which is loaded for it.")
            self.load_model(path)

    def _bring_back(self) -> None:
        """Have the engine, if it is ready, take what is kept of this chat from the disk, before the next
        prompt."""
        info, upto = self.model.info, self.conversation.tip
        if info is None or not info.capabilities.restores or upto is None:
            return
        request = self._request(self._turns(upto))
        if request.chat_id and request.turns:
            self._spawn(self._tell_restored(self.ask(lambda engine: engine.restore(request))))

    async def _tell_restored(self, asked: Awaitable[Restored | None]) -> None:
        try:
            restored = await asked
        except Exception as error:  # noqa: BLE001 - the next prompt is computed whole then, and tells what fails
            _log.info("a chat was not restored", exc_info=error)
            return
        if restored is not None:
            saved = f", saved {duration(restored.saved_s)}" if restored.saved_s else ""
            self.view.note(f"Restored {restored.n:,} tokens{saved}.")

    async def _leave(self, open_next: Callable[[], ChatFile]) -> None:
        """Go to another chat. Prompts typed meanwhile wait for it."""
        self._leaving += 1
        try:
            if not self._abandon():
                self.take_back_queue()  # they were meant for the chat that is left
            async with self._writing:
                chat = await asyncio.to_thread(open_next)
                await self.stop_and_save()
                left, self.chat = self.saver, chat
                self.logprobs.clear()
                self.scored.clear()
                self.looks.clear()
                self.saver = Saver(chat, self.view.show_trouble)
                self._prompter.forget()
                self.metrics.new_chat()
                self.view.show_trouble(None)
                self.view.show_chat()
                await left.close()
        finally:
            self._leaving -= 1
            self.view.show_state()
            if not self.reload_if_due():
                self.send_next()

    # The model and the settings.

    def load_model(self, source: Source) -> None:
        """Load another model; what waits is sent when it is there."""
        if self._attempt is not None and not self._writing.locked() and self._outbox.texts:
            self._attempt.abandoned = True
            self._attempt = None
            self._outbox.postpone()
        self.stop()
        self.model.load(source, self.settings)

    def change_settings(self, settings: Settings) -> None:
        """New parameters count from the next reply on; another context size needs the model anew."""
        again = settings.ctx_size != self.settings.ctx_size
        self.settings = settings
        if again:
            self.model.want_reload()
            self.reload_if_due()

    def reload_if_due(self) -> bool:
        """Load the model anew for another context size, but never under a reply."""
        path = None if self.generating else self.model.take_reload()
        if path is None:
            return False
        self.load_model(path)
        return True

    def set_system(self, text: str) -> None:
        """Another system prompt; the empty text removes it."""
        self.change_settings(replace(self.settings, system=text))
        if text:
            self.view.note("The system prompt is set; it counts from the next message on.")
        else:
            self.view.note(
                "The system prompt is removed: from the next message on none is sent "
                "(the model's template may add its own)."
            )

    def reset_cache(self) -> None:
        """Empty the KV cache; the transcript stays. A reply that grows is finished first."""
        self.model.reset_cache(generating=self.generating)

    # News from the engine.

    async def take_news(self) -> bool:
        """Take in what the host has to tell; False where that was nothing. Call it often: it also saves the
        growing reply each second."""
        async with self._news_turn:
            items = self.host.drain()
            await self._take(items)
            await self._checkpoint()
        return bool(items)

    async def _take(self, items: list[news.News]) -> None:
        """The text of one drain reaches the view in one piece, the thought before the answer."""
        text: list[str] = []
        thought: list[str] = []

        def flush() -> None:
            reply, said, thinks = self.reply, "".join(text), "".join(thought)
            text.clear()
            thought.clear()
            if thinks and reply is not None:
                numbers = reply.thought
                self.view.add_thought(reply.message.id, thinks, numbers.n, numbers.seconds)
            if said and reply is not None:
                self.view.add_text(reply.message.id, said)

        for item in items:
            reply = self.reply
            if not isinstance(item, news.ReplyEvent):
                flush()
                await self._take_other(item)
            elif reply is not None and item.request_id == reply.request_id:
                self.metrics.on_event(item.event)
                self.view.show_event(item.event)
                reply.take(item.event)
                if isinstance(item.event, TextDelta):
                    (thought if item.event.thought else text).append(item.event.text)
                if isinstance(item.event, Finished):
                    flush()
                    await self._end_reply(reply.ended())
            elif isinstance(item.event, Finished | PrefillProgress):
                self.metrics.on_event(item.event)  # a reply that was left: the cache moved all the same
        flush()

    async def _take_other(self, item: news.News) -> None:
        match item:
            case news.ReplyFailed(request_id, text, is_sound):
                if self.reply is not None and request_id == self.reply.request_id:
                    self.metrics.failed()
                    if is_sound:
                        self.view.note(text, "error")
                    await self._end_reply(self.reply.failed(text, is_sound=is_sound))
            case news.EngineReady(info, load_s):
                self.settings = with_advice(self.settings, info.advice)
                self.model.ready(info, load_s, self.settings.ctx_size)
                self._bring_back()
                self.send_next()
            case _:
                self.model.take(item)

    async def _end_reply(self, message: Message) -> None:
        """The reply has its last state."""
        if self.reply is not None:
            self.logprobs[message.id] = self.reply.logprobs()
            self.scored[message.id] = self.reply.scored()
            self.looks[message.id] = told_looks(self.reply.tokens)
            if len(self.logprobs) > LOGPROBS_KEPT:
                oldest = next(iter(self.logprobs))
                del self.logprobs[oldest], self.scored[oldest], self.looks[oldest]
        self.reply = None
        await self._keep(message)
        self.model.answered(message.x.get("timings"))
        self.view.show_state()
        if not self.reload_if_due():
            self.send_next()

    async def _keep(self, message: Message) -> None:
        """A reply's last state: in the tree, on disk, on the screen."""
        self.conversation.update(message)
        await self.saver.append(message)
        self.view.update_message(message)

    async def _checkpoint(self) -> None:
        reply = self.reply
        if reply is not None and reply.changed and self._clock() >= self._checkpoint_due:
            self._checkpoint_due = self._clock() + CHECKPOINT_PERIOD_S
            reply.changed = False
            state = reply.state()
            self.conversation.update(state)
            await self.saver.checkpoint(state)

    async def sizes(self, attachments: Sequence[Attachment]) -> Sizes:
        """What attachments would take of the context as it is now; guessed where there is no tokenizer."""

        def count(engine: Engine) -> list[int] | None:
            tokens = engine.tokens
            return (
                None
                if tokens is None
                else [len(tokens.encode(prompt_text("", [one]))) for one in attachments]
            )

        try:
            counts = await self.ask(count)
        except LookupError:
            counts = None
        info, used = self.model.info, sum(n for _, n in segments(self.path()))
        return sizes_of(attachments, counts, max(1, info.ctx_size - used) if info and info.ctx_size else 0)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of `question(engine)`, computed between two requests. LookupError without a model."""
        return await asyncio.wrap_future(self.host.ask(question))
