"""What is attached to a prompt: read when it is sent, counted before, shortened where it does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chat_app.attachments.attachment import Attachment, attachments_of, prompt_text
from chat_app.attachments.finding import Found, attach
from chat_app.attachments.mentions import mentions
from chat_app.attachments.sizes import Sizes, ToSummarise, beginnings, sizes_of, to_summarise
from chat_app.chat.conversation import taken_n
from chat_app.chat.open_chat import OpenChat
from chat_app.chat.outbox import Pending
from chat_app.engines.base import Engine


class Attaching:
    """The files of the prompts of an open chat."""

    def __init__(self, chat: OpenChat) -> None:
        self._chat = chat

    async def read(self, pending: Pending) -> Found:
        """What goes with a prompt. Another wording keeps what its message has, as it was read then, unless
        its mention is gone. Raises AttachmentError where something cannot be read."""
        if pending.attached is not None:
            return Found(pending.attached)
        named = mentions(pending.text) if pending.mentions else []
        before = () if pending.edits is None else attachments_of(self._chat.conversation.get(pending.edits).x)
        kept = tuple(one for one in before if not one.typed or one.typed in named)
        new = [name for name in named if name not in {one.typed for one in kept}]
        if not (pending.files or new):
            return Found(kept)
        files = await asyncio.to_thread(attach, pending.files)
        mentioned = await asyncio.to_thread(attach, new, typed=True)
        each = {one.path: one for one in (*mentioned.attachments, *files.attachments, *kept)}
        return Found(tuple(each.values()), (*files.notes, *mentioned.notes))

    async def sizes(self, attachments: Sequence[Attachment]) -> Sizes:
        """What attachments would take of the context as it is now; guessed where there is no tokenizer."""

        def count(engine: Engine) -> list[int] | None:
            tokens = engine.tokens
            if tokens is None:
                return None
            return [len(tokens.encode(prompt_text("", [one]))) for one in attachments]

        chat = self._chat
        try:
            counts = await chat.ask(count)
        except LookupError:
            counts = None
        info = chat.model.info
        taken = taken_n(chat.conversation.path())
        left = max(1, info.ctx_size - taken) if info and info.ctx_size else 0
        return sizes_of(attachments, counts, left)

    async def to_summarise(self, attachments: Sequence[Attachment], over_n: int) -> list[ToSummarise]:
        """Those whose summaries make all of them shorter by so many tokens; none where nothing would."""
        return to_summarise(attachments, await self.sizes(attachments), over_n)

    async def shortened(
        self, attachments: Sequence[Attachment], over_n: int
    ) -> tuple[Attachment, ...] | None:
        """Their beginnings, by so many tokens shorter in all; None where that would leave nothing."""
        sizes = await self.sizes(attachments)
        return beginnings(attachments, sizes.total.tokens, over_n)
