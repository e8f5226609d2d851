"""A cursor over the tokens of a reply, and a look at the one under it."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from chat_app.chat.branches import ReplyTokens
from chat_app.chat.inspection import Alternative, TokenLook
from chat_app.chat.token_scores import TokenScores

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController

# A token that was less likely than this: the model was undecided, or drew against its own opinion.
DOUBTFUL = 0.5


class TokenWalk:
    """Walks through the reply `message_id`, beginning at the token `at`. places: where the cursor may stand,
    ascending; empty: everywhere. `look` is of the token under the cursor, or of the one before while that is
    computed; `choice` counts its alternatives."""

    def __init__(
        self, chat: ChatController, message_id: str, *, at: int = 0, places: Sequence[int] = ()
    ) -> None:
        self._chat = chat
        self._places = places
        self._moved = asyncio.Event()
        self.message_id = message_id
        self.logprobs: Sequence[float] = TokenScores.of(chat.conversation.get(message_id)).logprobs
        self.reply: ReplyTokens | None = None
        self.look: TokenLook | None = None
        self.at = at
        self.choice = 0

    @property
    def problem(self) -> str:
        """Why there is nothing to be looked at now; empty where there is."""
        chat = self._chat
        if chat.generating or chat.model.info is None:
            return "The model is busy or not loaded; tokens can be inspected afterwards."
        return chat.branches.unreadable(self.message_id)

    async def run(self, changed: Callable[[], None]) -> None:
        """Prepare once, then look at whichever token the cursor comes to rest on; `changed` is called when
        there is more to be shown. Ends only when it is cancelled. Raises what the engine raises."""
        branches = self._chat.branches
        self.reply = await branches.reply_tokens(self.message_id)
        changed()
        while True:
            at = self.at
            look = await branches.look_at(self.reply, at)
            self.look, self.choice = look, 0
            changed()
            if at == self.at:
                await self._moved.wait()
            self._moved.clear()

    @property
    def here(self) -> TokenLook | None:
        """The look at the token under the cursor; None while it is computed."""
        return self.look if self.look is not None and self.look.index == self.at else None

    @property
    def marked(self) -> Alternative | None:
        """The alternative that is chosen."""
        return None if self.here is None else self.here.top[self.choice]

    def move(self, step: int) -> None:
        """Go `step` places on, not past either end."""
        places = self._all_places()
        if places:
            now = bisect_left(places, self.at)
            self.go(places[max(0, min(len(places) - 1, now + step))])

    def jump(self, place: int) -> None:
        """Go to the place with this number; -1 is the last."""
        places = self._all_places()
        if places:
            self.go(places[place])

    def seek(self, step: int) -> bool:
        """Go to the next doubtful token, before the cursor where `step` is below 0; False where there is
        none."""
        found = [at for at in self._all_places() if is_doubtful(self.logprobs, at)]
        there = [at for at in found if (at > self.at if step > 0 else at < self.at)]
        if there:
            self.go(there[0] if step > 0 else there[-1])
        return bool(there)

    def choose(self, step: int) -> None:
        """Mark another alternative, `step` on; the first follows the last."""
        if self.here is not None:
            self.choice = (self.choice + step) % len(self.here.top)

    def branch(self) -> Coroutine[Any, Any, None] | None:
        """A branch that takes the marked alternative here and goes on; None while that is computed. Raises
        ValueError with a sentence where it cannot be taken."""
        reply, look, marked = self.reply, self.here, self.marked
        if reply is None or look is None or marked is None:
            return None
        if marked.id == look.chosen.id:
            raise ValueError("That is the token that stands there; choose another with ↓.")
        if marked.barred:
            raise ValueError("What the reply was held to does not allow this token.")
        return self._chat.branches.take_alternative(reply, self.at, marked.id)

    def _all_places(self) -> Sequence[int]:
        return self._places or range(len(self.reply.tokens) if self.reply is not None else 0)

    def go(self, at: int) -> None:
        """Go to the token `at`."""
        self.at = at
        self._moved.set()


def is_doubtful(logprobs: Sequence[float], at: int) -> bool:
    """Whether the token at `at` was less likely than DOUBTFUL; False where that is not known."""
    logprob = logprobs[at] if at < len(logprobs) else math.nan
    return logprob < math.log(DOUBTFUL)
