"""The comparison of a chat that is under way, or was the last one."""

from __future__ import annotations

from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.comparing.sides import Wish, sides_of
from chat_app.chat.open_chat import OpenChat
from chat_app.engines.host import EngineHost


class Comparisons:
    """Begins them for an open chat. `latest` can be kept from until another begins."""

    def __init__(self, chat: OpenChat, host: EngineHost) -> None:
        self._chat, self._host = chat, host
        self.latest: Comparison | None = None
        self.open = False  # the latest is under the eyes, and no choice is made yet

    def begin(self, wishes: tuple[Wish, ...]) -> Comparison:
        """Two answers to the last question of the path. Raises ValueError with a sentence."""
        chat = self._chat
        question = next((one for one in reversed(chat.conversation.path()) if one.role == "user"), None)
        if question is None:
            raise ValueError("There is no question yet that two could answer; ask it first.")
        if chat.generating or chat.model.info is None:
            raise ValueError("The model is busy or not loaded; compare when the reply is done.")
        sides = sides_of(wishes, chat.settings, chat.model.info)
        self.latest = comparison = Comparison(chat, self._host, question.id, sides)
        return comparison

    async def keep(self, place: int) -> None:
        """Keep one side of the latest as the branch. Raises ValueError where there is none."""
        if self.latest is None:
            raise ValueError("There is nothing to keep; /compare makes two answers.")
        if self._chat.generating:
            raise ValueError("A reply is being written; stop it first.")
        await self.latest.keep(place)

    def save_now(self) -> None:
        """The process ends: what is under the eyes is kept."""
        if self.latest is not None and self.open:
            self.latest.save_now()
