"""One of the answers that are compared, and how an engine gives several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chat_app.chat.comparing.candidate import Candidate
from chat_app.chat.comparing.sides import Side
from chat_app.chat.conversation import Message
from chat_app.chat.reply import GrowingReply, reply_details
from chat_app.config.settings import Settings, with_advice
from chat_app.engines.base import Engine, PromptRequest, Source, Turn, prepare_shortened


@dataclass(slots=True)
class Contender:
    """turns: what is asked. source: of another model than the chat's, None where it is that one; model: the
    name of the one that answers, once that is known. state: what it does, in a word or two. failure: why it
    never began."""

    side: Side
    turns: tuple[Turn, ...]
    source: Source | None = None
    model: str = ""
    model_sha256: str = ""
    state: str = "waits"
    failure: str = ""
    candidate: Candidate | None = None
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.side.settings

    @property
    def error(self) -> str:
        """Why there is no more of it, where it failed."""
        return self.candidate.error if self.candidate is not None else self.failure

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return bool(self.failure) or (self.candidate is not None and self.candidate.ended)

    @property
    def whole(self) -> bool:
        """Whether its answer came to an end of its own, neither stopped nor failed."""
        finished = None if self.candidate is None else self.candidate.reply.finished
        return not self.error and finished is not None and finished.reason != "cancelled"


def let_answer(
    engine: Engine,
    contenders: Sequence[Contender],
    question_id: str,
    seed: int,
    cancelled: Callable[[], bool],
) -> None:
    """On the engine's thread: all of them answer, in one batch where the engine can. Those without a seed of
    their own draw from the same one, so that what differs is what they were given. Raises what preparing a
    prompt raises."""
    asked = []
    for one in contenders:
        one.model = engine.info.name
        one.state = "reading"
        if one.source is not None:
            one.settings = with_advice(one.settings, engine.info.advice)
        params = one.settings.params
        drawn = replace(params, seed=seed) if params.seed is None else params
        prompt = prepare_shortened(engine, PromptRequest(one.turns, params))
        details = reply_details(one.settings, params, engine.info, one.model_sha256, prompt, question_id)
        guest = {"guest": one.side.guest} if one.side.guest else {}
        message = Message("", question_id, "assistant", "", "", "partial", {**details, **guest})
        one.candidate = Candidate(GrowingReply(0, message, message.x, prompt=prompt))
        asked.append((prompt, drawn))
    for place, told in engine.stream_together(asked, cancelled=cancelled):
        one = contenders[place]
        assert one.candidate is not None, "it was made above"
        one.candidate.take(told)
        one.state = "failed" if one.error else "done" if one.ended else "writing"
