"""What a session does with the engine's news: text to the screen, numbers to the panel, states to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat_app.engines import messages as news
from llama_core.events import Finished, PrefillProgress

if TYPE_CHECKING:
    from chat_app.chat.session import ChatSession


async def take_news(session: ChatSession, items: list[news.News]) -> None:
    """Take what the bridge's queue held; the text of one drain reaches the view in one piece."""
    text: list[str] = []

    def flush() -> None:
        joined = "".join(text)
        text.clear()
        if joined and session.reply is not None:
            session.view.add_text(session.reply.message.id, joined)

    for item in items:
        reply = session.reply
        if not isinstance(item, news.ReplyEvent):
            flush()
            await _take_other(session, item)
        elif reply is not None and item.request_id == reply.request_id:
            session.metrics.on_event(item.event)
            text.append(reply.take(item.event))
            if isinstance(item.event, Finished):
                flush()
                await session.end_reply(reply.ended())
        elif isinstance(item.event, Finished | PrefillProgress):
            session.metrics.on_event(item.event)  # a reply that was left: the cache moved all the same
    flush()


async def _take_other(session: ChatSession, item: news.News) -> None:
    if isinstance(item, news.Loading):
        session.metrics.loading(item.progress)
        if item.progress is not None and item.progress.note and item.progress.done_bytes == 0:
            session.view.note(item.progress.note)
    elif isinstance(item, news.MemoryMeasured):
        session.metrics.memory(item.report)
    elif isinstance(item, news.CacheReset):
        session.metrics.cache_reset()
        session.view.note("KV cache emptied. The next reply computes the whole conversation again.")
    elif isinstance(item, news.ReplyFailed):
        reply = session.reply
        if reply is not None and item.request_id == reply.request_id:
            session.metrics.failed()
            await session.end_reply(reply.failed(item.text))
    elif isinstance(item, news.EngineTrouble):
        session.view.note(item.text, "error")
    elif isinstance(item, news.EngineReady):
        session.model_ready(item.info, item.load_s)
    elif isinstance(item, news.LoadFailed):
        session.info, session.loading = None, None
        session.metrics.engine_gone()
        session.view.show_state()
        session.view.show_load_failure(item.path, item.text)
