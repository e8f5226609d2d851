"""A prompt that fits: prepared, and where it is too long, room made for it in the way that the user wants.

Here are a larger context, a summary of the older turns, and shorter files: their beginnings, or summaries.
Leaving out the oldest turns changes the prompt alone, and the prompter does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from chat_app.attachments.attachment import Attachment
from chat_app.chat.attaching import Attaching
from chat_app.chat.compaction import Compaction
from chat_app.chat.file_summary import FileSummary, summarise_file
from chat_app.chat.open_chat import Attempt, OpenChat
from chat_app.chat.outbox import Outbox
from chat_app.chat.prompter import MakeRoom, Prompter
from chat_app.chat.reviewing import reviewed
from chat_app.chat.summary import SummaryDraft
from chat_app.engines.base import Prompt, PromptRequest
from chat_app.engines.host import EngineHost
from chat_app.text.errors import describe_error

USE = "The model reads this in place of the file; the chat keeps both."


class Fitting:
    """Fits the prompts of an open chat. Where room is made, the prompt under way in `outbox` is sent anew."""

    def __init__(self, chat: OpenChat, host: EngineHost, outbox: Outbox, attaching: Attaching) -> None:
        self._chat = chat
        self._outbox = outbox
        self._attaching = attaching
        self._prompter = Prompter(host, chat.view)
        self._compaction = Compaction(chat)

    def forget(self) -> None:
        """Another chat is opened: what was agreed to counts no more."""
        self._prompter.forget()

    async def prepare(
        self,
        attempt: Attempt,
        request: PromptRequest,
        upto: str | None,
        attached: Sequence[Attachment] = (),
    ) -> Prompt | None:
        """The prompt of `request`, which is the path to `upto` and perhaps a message with what is `attached`.
        None, and the attempt over, when it is not to be sent now."""
        chat = self._chat
        try:
            prompt = await self._prompter.prepare(request, chat.model.larger_ctx_size, len(attached))
        except Exception as error:  # noqa: BLE001 - a template or tokenizer that fails must not end the app
            prompt = None
            if not attempt.abandoned:
                chat.view.note(describe_error(error), "error")
        if attempt.abandoned:
            return None
        if isinstance(prompt, MakeRoom):
            await self._make_room(prompt, attempt, request, upto, attached)
            return None
        if prompt is None:
            chat.abandon()
        return prompt

    async def _make_room(
        self,
        wanted: MakeRoom,
        attempt: Attempt,
        request: PromptRequest,
        upto: str | None,
        attached: Sequence[Attachment],
    ) -> None:
        """Make room in the way that is `wanted`; the attempt is over, whatever comes of it."""
        if wanted.way == "raise":
            self._raise_context(attempt, wanted.ctx_size)
        elif wanted.way == "part":
            shorter = await self._attaching.shortened(attached, wanted.over_n)
            said = "Only the beginning of what is attached is sent; the record says so."
            self._send_shorter(attempt, shorter, said)
        elif wanted.way == "digest":
            await self._send_summaries(attempt, attached, wanted.over_n)
        else:
            await self._compact(attempt, upto, request)

    async def compact(self) -> None:
        """Summarise the older turns of this chat, now."""
        chat = self._chat
        attempt = chat.begin()
        if attempt is None:
            return
        try:
            await self._compaction.run(attempt, chat.conversation.tip)
        finally:
            chat.finish_attempt(attempt)

    def _raise_context(self, attempt: Attempt, ctx_size: int) -> None:
        """Load the model with a larger context; the prompt under way is sent when it is there."""
        chat = self._chat
        what = "your prompt is sent then" if self._outbox.texts else "ask again when it is ready"
        chat.put_off(attempt)
        chat.change_settings(replace(chat.settings, ctx_size=ctx_size))
        chat.view.note(f"The model is loaded with a context of {ctx_size:,} tokens; {what}.")

    def _send_shorter(self, attempt: Attempt, attached: Sequence[Attachment] | None, said: str) -> None:
        """Send the prompt under way again with files that are `attached` shorter; None: they cannot be."""
        chat = self._chat
        if attempt.abandoned:
            return
        if attached is None:
            chat.view.note("Even without the files there is not enough room.", "error")
            chat.abandon()
            return
        self._outbox.shorten(attached)
        self._outbox.postpone()
        chat.view.note(said, "warning")
        chat.finish_attempt(attempt)

    async def _send_summaries(self, attempt: Attempt, attached: Sequence[Attachment], over_n: int) -> None:
        """Have the model summarise what is too long, let the user edit it, and send the prompt under way so;
        it comes back where a summary is not wanted."""
        chat, shorter = self._chat, list(attached)
        chosen = await self._attaching.to_summarise(attached, over_n)
        for n, one in enumerate(chosen, 1):
            if attempt.abandoned:
                return
            of = one.file.name if len(chosen) == 1 else f"{one.file.name} ({n} of {len(chosen)})"
            draft = SummaryDraft(of, USE, "Do not send")
            wanted = FileSummary(one.file, self._outbox.asked, one.room_n)
            params = chat.settings.params
            text = await reviewed(
                chat, draft, partial(summarise_file, wanted=wanted, params=params, draft=draft)
            )
            if not text:
                chat.abandon()
                return
            shorter[one.at] = replace(one.file, summary=text)
        self._send_shorter(attempt, shorter if chosen else None, "A summary stands for what was too long.")

    async def _compact(self, attempt: Attempt, upto: str | None, request: PromptRequest) -> None:
        """Make room by a summary; then the prompt under way is sent, on the new branch."""
        chat = self._chat
        try:
            pending = request.turns[-1:] if self._outbox.texts else ()
            compacted = await self._compaction.run(attempt, upto, pending)
        except Exception:  # whoever spawned this tells it; the engine is free first
            chat.abandon()
            raise
        if not compacted:
            chat.abandon()
            return
        self._outbox.postpone(at_the_tip=True)
        chat.finish_attempt(attempt)
