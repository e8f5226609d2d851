"""What the engine tells, in order: each event to the reply, the numbers and the view that it is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from chat_app.chat.conversation import Message
from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.read_ahead import ReadAhead
from chat_app.chat.reply import GrowingReply
from chat_app.chat.view import ChatView
from chat_app.engines import news
from llama_core.events import Finished, PrefillProgress, TextDelta


class Hearer(Protocol):
    """What the news ask of the controller."""

    @property
    def reply(self) -> GrowingReply | None:
        """The reply that grows now."""

    @property
    def model(self) -> LoadedModel:
        """What hears of the engine's state."""

    @property
    def metrics(self) -> PanelMetrics:
        """What counts events."""

    @property
    def ahead(self) -> ReadAhead:
        """What hears how far the engine has read ahead."""

    @property
    def view(self) -> ChatView:
        """Who shows the chat."""

    async def end_reply(self, message: Message) -> None:
        """The reply has its last state."""

    def engine_ready(self, ready: news.EngineReady) -> None:
        """A model is loaded."""

    def load_failed(self, failed: news.LoadFailed) -> None:
        """A model could not be loaded."""


class Inbox:
    """Takes in what the host drains. The text of one drain reaches the view in one piece, the thought
    before the answer."""

    def __init__(self, chat: Hearer) -> None:
        self._chat = chat
        self._text: list[str] = []
        self._thought: list[str] = []

    async def take(self, items: Iterable[news.News]) -> bool:
        """Take in the news of one drain; False where there are none."""
        chat, self._text, self._thought = self._chat, [], []
        any_came = False
        for item in items:
            any_came = True
            if not isinstance(item, news.ReplyEvent):
                self._flush()
                await self._take_other(item)
            elif chat.reply is not None and item.request_id == chat.reply.request_id:
                await self._take_event(item, chat.reply)
            elif isinstance(item.event, Finished | PrefillProgress):
                chat.metrics.on_event(item.event)  # a reply that was left: the cache moved all the same
        self._flush()
        return any_came

    async def _take_event(self, item: news.ReplyEvent, reply: GrowingReply) -> None:
        chat, event = self._chat, item.event
        chat.metrics.on_event(event)
        chat.view.show_event(event)
        reply.take(event)
        if isinstance(event, TextDelta):
            (self._thought if event.thought else self._text).append(event.text)
        if isinstance(event, Finished):
            self._flush()
            await chat.end_reply(reply.ended())

    def _flush(self) -> None:
        """Show the text that has come since the last time, if its reply is still there."""
        chat, said, thinks = self._chat, "".join(self._text), "".join(self._thought)
        self._text.clear()
        self._thought.clear()
        reply = chat.reply
        if thinks and reply is not None:
            chat.view.add_thought(reply.message.id, thinks, reply.thought.n, reply.thought.seconds)
        if said and reply is not None:
            chat.view.add_text(reply.message.id, said)

    async def _take_other(self, item: news.News) -> None:
        chat, reply = self._chat, self._chat.reply
        match item:
            case news.ReplyFailed(request_id, text, is_sound):
                if reply is not None and request_id == reply.request_id:
                    chat.metrics.failed()
                    if is_sound:
                        chat.view.note(text, "error")
                    await chat.end_reply(reply.failed(text, is_sound=is_sound))
            case news.ReadingAhead() | news.ReadAheadEnded():
                chat.ahead.take(item)
            case news.EngineReady():
                chat.engine_ready(item)
            case news.LoadFailed():
                chat.load_failed(item)
            case _:
                chat.model.take(item)
