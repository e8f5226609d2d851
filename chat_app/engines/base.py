"""What a chat asks of an engine. The local model is one; a server that speaks a protocol is another.

An engine is used by one thread at a time and may block; `EngineHost` keeps it away from the screen. What an
engine cannot do, its capabilities say beforehand, so that nobody asks in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chat_app.config.endpoints import Endpoint
from chat_app.text.errors import SentenceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat_app.config.settings import Advice, Settings
    from llama_core.backends.base import MemoryReport
    from llama_core.backends.step_watch import StepWatch
    from llama_core.constraints.grammar import Grammar
    from llama_core.events import Event, LoadProgress, PrefillProgress
    from llama_core.sampling.params import SamplingParams


def never() -> bool:
    """Asked where nobody can answer."""
    return False


class NotCapableError(LookupError):
    """The engine was asked for what its capabilities exclude; the message is a sentence."""


class BrokenOffError(SentenceError):
    """A reply ended for a reason outside the model, such as the network: what came of it is sound, and it can
    go on."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond answering.

    tokens: it gives token ids and can be asked about them. logits: it computes the distribution after any
    prompt, for the inspector. reset: it keeps keys and values that can be dropped. continues: it can go on
    with a reply that has begun. raw: it takes a prompt without a chat template. thinks: its model marks its
    thoughts, and a thought can be ended from here. restores: it keeps what it read of a chat, and brings it
    back. reads_ahead: it reads the beginning of a prompt before the prompt is there.
    """

    tokens: bool = True
    logits: bool = True
    reset: bool = True
    continues: bool = True
    raw: bool = True
    thinks: bool = False
    restores: bool = False
    reads_ahead: bool = False


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine as the screen describes it. `path` is None where no file of this machine is meant;
    `has_template` False: a base model, plain completion. host: the machine that computes where it is not this
    one; untold: what it does not tell of itself, in words. advice: how replies are best drawn.
    max_ctx_size: what the model was trained for. Sizes that are not known are 0."""

    name: str
    path: Path | None
    backend: str
    threads: int
    ctx_size: int
    file_bytes: int
    has_template: bool
    architecture: str = "llama"
    tokenizer: str = ""
    template: str = ""
    capabilities: Capabilities = Capabilities()
    host: str = ""
    untold: str = ""
    advice: Advice = field(default_factory=dict)
    max_ctx_size: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a prompt. `ids` are the tokens that a reply was written with, where they are known: it is
    sent again as it was, not split anew; the first `thought_n` of them are no part of the answer. `id` names
    the message it came from."""

    role: str
    content: str
    ids: tuple[int, ...] = ()
    id: str = ""
    thought: str = ""
    thought_n: int = 0

    def to_message(self, *, with_thought: bool = False) -> dict[str, str]:
        """The turn in OpenAI's form, its thought only where it is asked for: servers may refuse it."""
        message = {"role": self.role, "content": self.content}
        return message | {"reasoning_content": self.thought} if with_thought and self.thought else message


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What shall be answered. continue_last: the last turn is a reply that goes on. raw: the last turn's text
    is the whole prompt, and control tokens in it count. chat_id: the chat for which an engine may keep what
    it computes; "" where nothing is to be kept."""

    turns: tuple[Turn, ...]
    params: SamplingParams
    continue_last: bool = False
    raw: bool = False
    chat_id: str = ""

    def without(self, drop: Sequence[int]) -> PromptRequest:
        """The same without the turns at these places."""
        return replace(self, turns=tuple(turn for at, turn in enumerate(self.turns) if at not in drop))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request made ready, once: `ids` are its tokens (None for an engine that keeps them to itself).

    prompt_n tokens and reply_n for the reply are to fit into `limit`. Where they do not, `drop` holds the
    places of the oldest turns without which they would; it is empty where nothing helps. `notes` are
    sentences about what was done to the turns. continue_last, raw and chat_id are the request's; the last
    `begun_n` ids are then the beginning of the reply itself.
    """

    turns: tuple[Turn, ...]
    ids: tuple[int, ...] | None
    prompt_n: int = 0
    reply_n: int = 0
    limit: int = 0
    fits: bool = True
    drop: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    shortened: bool = False  # turns were left out of it
    continue_last: bool = False
    begun_n: int = 0
    raw: bool = False
    chat_id: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """So many tokens of a chat came from where they were kept, which would have taken `saved_s` seconds to
    compute."""

    n: int
    saved_s: float


@dataclass(frozen=True, slots=True)
class ReplyParts:
    """A reply taken apart: its thought, its answer, and how many of its tokens come before the answer."""

    thought: str
    content: str
    thought_n: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token as people read it. raw: the bytes it stands for; empty for a control token."""

    id: int
    text: str
    raw: bytes


class TokenAccess(Protocol):
    """The tokens of an engine that has them on this machine."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which nothing is a control token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply's ids; control tokens are left out."""

    def parts(self, prompt: Prompt, ids: Sequence[int]) -> ReplyParts:
        """What a reply with these ids says; `prompt` may have begun its thought."""

    def describe(self, ids: Sequence[int]) -> list[Token]:
        """Each token by itself."""

    def ends_reply(self, token_id: int) -> bool:
        """Whether a reply ends at this token."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(vocab_size,): the distribution after `ids`. Raises ContextFullError, NumericalError."""

    def allowed(
        self, grammar: Grammar, prompt_ids: Sequence[int], ids: Sequence[int]
    ) -> NDArray[np.bool_] | None:
        """(vocab_size,): what a reply to the prompt that is held to `grammar` may go on with after `ids`;
        None where that is all. Raises GrammarError."""

    def cut_by(
        self,
        params: SamplingParams,
        logits: NDArray[np.float32],
        prompt_ids: Sequence[int],
        ids: Sequence[int],
        among: Sequence[int],
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[str, ...]:
        """Which of a reply's parameters keeps each token of `among` from being drawn after `ids`: its name,
        "mask" for what is not `allowed`, "" for a token that can be drawn. logits: (vocab_size,), those
        there."""


# Of several replies: the place of one among those asked for, and an event of it or why no more will come.
ToldTogether = tuple[int, "Event | Exception"]


class Engine(Protocol):
    """Answers prompts. Errors of `llama_core` and OSError are told to the user; others are faults."""

    @property
    def info(self) -> EngineInfo:
        """What the screen may say of it, and what it can do."""

    @property
    def tokens(self) -> TokenAccess | None:
        """None where `info.capabilities.tokens` is False."""

    @property
    def steps(self) -> StepWatch | None:
        """What the operations of a step take, while it is on; None where nobody here can tell."""

    def prepare(self, request: PromptRequest) -> Prompt:
        """Render and encode a request, once. Raises TemplateError, NotCapableError."""

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        cancelled: Callable[[], bool],
        answer_now: Callable[[], bool] = never,
    ) -> Iterator[Event]:
        """The events of one reply, Finished as the last. `cancelled` is asked between steps; a reply that is
        cancelled ends with Finished("cancelled"). `answer_now` ends the thought under way; it is given only
        where `info.capabilities.thinks`."""

    def stream_together(
        self, replies: Sequence[tuple[Prompt, SamplingParams]], *, cancelled: Callable[[], bool]
    ) -> Iterator[ToldTogether]:
        """The events of several replies, drawn in one batch where the engine can: each ends with Finished, or
        with the error that ended it, and leaves the others alone."""

    def restore(self, request: PromptRequest) -> Restored | None:
        """Bring back what is kept of a request's chat, before it is asked for; None where that is nothing.
        Asked only where `info.capabilities.restores`. Raises TemplateError."""

    def read_ahead(
        self, request: PromptRequest, *, cancelled: Callable[[], bool]
    ) -> Iterator[PrefillProgress]:
        """Read a prompt of which the end is not known yet, but for what depends on that end: the last turn is
        the beginning of what will be asked. Nothing where little or nothing is to be read, or where it would
        not fit. `cancelled` is asked between steps. Asked only where `info.capabilities.reads_ahead`. Raises
        TemplateError."""

    def reset(self) -> None:
        """Forget keys and values; the next prompt is computed whole."""

    def memory(self) -> MemoryReport | None:
        """Where the bytes are, now; None where they are not on this machine."""

    def close(self) -> None:
        """Let everything go. May be called twice."""


OnProgress = Callable[["LoadProgress"], None]
# What an engine is made of: a model's file or folder, or a server elsewhere. Both have a `name`.
Source = Path | Endpoint
OpenEngine = Callable[[Source, "Settings", OnProgress], Engine]


def prepare_shortened(engine: Engine, request: PromptRequest) -> Prompt:
    """The prompt of a request, without its oldest turns where it would not fit with them. Raises as `prepare`
    does."""
    prompt = engine.prepare(request)
    if prompt.fits or not prompt.drop:
        return prompt
    return replace(engine.prepare(request.without(prompt.drop)), shortened=True)
