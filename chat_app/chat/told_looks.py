"""The alternatives that an engine elsewhere told with its replies: nobody here could compute them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chat_app.chat.inspection import TokenLook, told_looks
from chat_app.chat.reply import GrowingReply

REPLIES_KEPT = 64


class ToldLooks:
    """Of the replies of the chat that is open, by their ids; the latest `REPLIES_KEPT` of them. The disk gets
    none: they are many times as large as what the reply says."""

    def __init__(self) -> None:
        self._looks: dict[str, tuple[TokenLook, ...]] = {}

    def __len__(self) -> int:
        """How many replies have some."""
        return len(self._looks)

    def of(self, message_id: str) -> tuple[TokenLook, ...]:
        """A look at each token of a reply; none where nobody told."""
        return self._looks.get(message_id, ())

    def keep(self, message_id: str, looks: Sequence[TokenLook]) -> None:
        """A reply has these, in the order of its tokens; the oldest reply makes room."""
        self._looks.pop(message_id, None)
        if looks:
            told = (replace(one, index=index) for index, one in enumerate(looks))
            self._looks[message_id] = tuple(told)
        if len(self._looks) > REPLIES_KEPT:
            del self._looks[next(iter(self._looks))]

    def add(self, message_id: str, reply: GrowingReply, before: Sequence[TokenLook]) -> None:
        """What was told of `reply`, and `before` it of its beginning. Where one token is without, the others
        cannot be counted, and nothing is kept."""
        new, begun_n = told_looks(reply.tokens), reply.begun_n
        whole = len(before) >= begun_n and len(new) == len(reply.tokens)
        self.keep(message_id, [*before[:begun_n], *new] if whole else ())

    def forget(self) -> None:
        """Another chat is opened."""
        self._looks.clear()
