"""An open chat as the parts of its controller see it, and the attempt at a reply that they hand around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from chat_app.chat.conversation import Conversation, Message
from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.saver import Saver
from chat_app.chat.told_looks import ToldLooks
from chat_app.chat.view import ChatView
from chat_app.config.settings import Settings
from chat_app.engines.base import Prompt, Source
from llama_core.sampling.params import SamplingParams


class Attempt:
    """A try at a reply, from the key to the moment in which the engine has it. Whoever stops it sets
    `abandoned`; what was begun for it is then dropped when it comes back."""

    abandoned = False
    stop_at_once = False  # stopped while its prompt went to disk: the reply ends where it begins


class OpenChat(Protocol):
    """What the parts of the controller ask of it: other ways to a reply, and what a prompt needs first."""

    settings: Settings
    saver: Saver
    looks: ToldLooks

    @property
    def model(self) -> LoadedModel:
        """The model that answers, or that none does."""

    @property
    def view(self) -> ChatView:
        """Who shows the chat."""

    @property
    def conversation(self) -> Conversation:
        """The tree as it is now; not to be kept, another chat may be opened."""

    @property
    def generating(self) -> bool:
        """Whether a reply grows or is being prepared."""

    def begin(self) -> Attempt | None:
        """Take the engine for another reply; None, and a word to the user, where it is busy."""

    async def prepare(
        self, attempt: Attempt, upto: str | None, *, continue_last: bool = False
    ) -> Prompt | None:
        """The prompt of the path to `upto`; None, and the attempt over, when it is not to be sent."""

    def start(
        self,
        attempt: Attempt,
        message: Message,
        prompt: Prompt,
        *,
        params: SamplingParams | None = None,
    ) -> None:
        """Let the engine answer into `message`; `prompt` has the tokens of what stands there already."""

    def finish_attempt(self, attempt: Attempt) -> None:
        """The attempt is over without a reply."""

    def submit(self, text: str, *, edits: str | None = None, raw: bool = False) -> None:
        """Send a prompt; `edits` is the message of which it is another wording, `raw` sends it alone."""

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of `question(engine)`, computed between two requests. LookupError without a model."""

    def abandon(self) -> bool:
        """Give the attempt up, if there is one that can be. Its prompt and those behind it go back."""

    def put_off(self, attempt: Attempt) -> None:
        """Give an attempt up; its prompt stays the first of those that wait."""

    def change_settings(self, settings: Settings) -> None:
        """New parameters count from the next reply on; another context size needs the model anew."""

    def load_model(self, source: Source) -> None:
        """Load another model; what waits is sent when it is there."""
