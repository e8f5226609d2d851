"""A summary that the model writes and the user sees, edits and takes or leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chat_app.chat.open_chat import OpenChat
from chat_app.chat.summary import SummaryDraft, SummaryStoppedError
from chat_app.engines.base import Engine
from chat_app.text.errors import describe_error


async def reviewed(chat: OpenChat, draft: SummaryDraft, write: Callable[[Engine], object]) -> str | None:
    """The summary that `write` makes in `draft`, as the user wants it; None where it is not to be used."""

    async def work() -> None:
        try:
            await chat.ask(write)
        except SummaryStoppedError:
            draft.error = "Stopped."
        except Exception as error:  # noqa: BLE001 - it is shown where the summary would be
            draft.error = describe_error(error)
        finally:
            draft.done.set()

    working = asyncio.ensure_future(work())
    try:
        return await chat.view.review_summary(draft)
    finally:
        draft.cancelled.set()
        await working
