"""Compacting a chat: a new branch that begins with a summary of the older turns; the old one stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chat_app.chat.conversation import Conversation, Message, has_answer, turn_of
from chat_app.chat.open_chat import Attempt, OpenChat
from chat_app.chat.reviewing import reviewed
from chat_app.chat.summary import (
    HEADING,
    MOST_TOKENS,
    SHARE,
    SummaryDraft,
    joined,
    summarise,
)
from chat_app.engines.base import Engine, PromptRequest, Turn

USE = "This will stand for them in a new branch; the branch before stays."
# As many of the last exchanges stay as they are, where they have room.
KEPT_EXCHANGES = 2
# Details of a copied reply that speak of the branch it came from.
_OF_ITS_BRANCH = ("context", "sees_from")


class Compaction:
    """Compacts the open chat."""

    def __init__(self, chat: OpenChat) -> None:
        self._chat = chat

    async def run(self, attempt: Attempt, upto: str | None, pending: Sequence[Turn] = ()) -> bool:
        """Summarise the path to `upto`, let the user see and edit it, and move to the new branch; False where
        nothing changed.

        pending: what is about to be asked, for which there must be room. `attempt` holds the engine.
        """
        chat = self._chat
        whole = chat.conversation.path(upto) if upto is not None else []
        path = [one for one in whole if one.role != "assistant" or has_answer(one)]
        older_n: int = await chat.ask(lambda engine: self._older(engine, path, pending))
        older, kept = path[:older_n], path[older_n:]
        said = [one for one in older if one.role != "system"]
        if len(said) < 2:
            chat.view.note("There are too few messages to be summarised.", "warning")
            return False
        turns = joined([*self._system(older), *map(turn_of, said)])
        draft = SummaryDraft(f"{len(said)} messages", USE, "Leave the chat as it is")
        params = chat.settings.params
        text = await reviewed(chat, draft, lambda engine: summarise(engine, turns, params, draft))
        if attempt.abandoned or not text:
            return False
        for message in summary_branch(chat.conversation, older, kept, text):
            await chat.saver.append(message)
        chat.view.show_chat()
        chat.view.note(
            f"{len(said)} messages are summarised. The branch before stays: ← on the summary shows it."
        )
        return True

    def _system(self, older: Sequence[Message]) -> list[Turn]:
        """The system prompt that the chat has now."""
        system = self._chat.settings.system
        if system is None:
            return [turn_of(one) for one in older if one.role == "system"]
        return [Turn("system", system)] if system else []

    def _older(self, engine: Engine, path: Sequence[Message], pending: Sequence[Turn]) -> int:
        """How many messages of the path are to be summarised: all but the last exchanges, as many of these as
        leave room for the summary and for what is about to be asked."""
        questions = [at for at, one in enumerate(path) if one.role == "user"]
        limit = engine.info.ctx_size
        params = self._chat.settings.params
        for kept_n in range(KEPT_EXCHANGES, 0, -1):
            if len(questions) <= kept_n:
                continue
            first = questions[-kept_n]
            turns = joined([*self._system(path), *map(turn_of, path[first:]), *pending])
            prompt = engine.prepare(PromptRequest(tuple(turns), params))
            if not limit or prompt.prompt_n + prompt.reply_n + min(MOST_TOKENS, limit // SHARE) <= limit:
                return first
        return len(path)


def summary_branch(
    conversation: Conversation, older: Sequence[Message], kept: Sequence[Message], text: str
) -> list[Message]:
    """A new branch of the conversation: the summary in the place of the older messages, then copies of those
    that are kept. Returns the new messages; the last is the tip."""
    above = next((one.id for one in older if one.role == "system"), None)
    spoken = [one for one in older if one.role != "system"]
    x: dict[str, Any] = {"summary_of": [spoken[0].id, spoken[-1].id]}
    added = [conversation.add("user", f"{HEADING}\n\n{text}", parent=above, x=x)]
    for message in kept:
        details = {key: value for key, value in message.x.items() if key not in _OF_ITS_BRANCH}
        added.append(conversation.add(message.role, message.content, status=message.status, x=details))
    return added
