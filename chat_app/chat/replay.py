"""Running the replies of a stored chat again, with their own prompts, parameters and seeds.

The same model and backend must give the same tokens. Where they do not, the first token that differs is told,
with what stood there: the sharpest test there is of whether an engine has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from chat_app.chat.conversation import Conversation, Message, token_ids
from chat_app.chat.recall import sampling_of
from chat_app.engines.base import (
    Engine,
    NotCapableError,
    Prompt,
    PromptRequest,
    TokenAccess,
    Turn,
    prepare_shortened,
)
from llama_core.errors import LlamaCoreError
from llama_core.events import TokenEvent
from llama_core.sampling.params import SamplingParams

Outcome = Literal["same", "different", "impossible", "cancelled"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where two runs differ. `position` counts the reply's tokens from 0; an id of None
    means that this run had ended there. `before` is the text of the tokens that agree."""

    position: int
    stored_id: int | None
    replayed_id: int | None
    stored_text: str
    replayed_text: str
    before: str


@dataclass(frozen=True, slots=True)
class ReplayedReply:
    """One reply of the chat: `matched` of `total` stored tokens came again. `reason` says why it could not be
    replayed ("impossible")."""

    message: Message
    outcome: Outcome
    matched: int
    total: int
    divergence: Divergence | None = None
    reason: str = ""


def replay_chat(
    engine: Engine, conversation: Conversation, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[ReplayedReply]:
    """Replay every reply of every branch, in the order they were made, each yielded when it is done.

    The engine is emptied first, and before each reply that was made with an empty cache: products of other
    shapes round differently, so on a backend that is not bit-exact a reused cache must be reused again.
    Raises NotCapableError where the engine gives no tokens.
    """
    if engine.tokens is None:
        raise NotCapableError(f"{engine.info.name} gives no tokens that could be compared.")
    engine.reset()
    for message in list(conversation):
        if message.role != "assistant" or not (message.content or message.x.get("ids")):
            continue
        if cancelled():
            return
        yield _replay_reply(engine, engine.tokens, conversation, message, cancelled)


def _replay_reply(
    engine: Engine,
    tokens: TokenAccess,
    conversation: Conversation,
    message: Message,
    cancelled: Callable[[], bool],
) -> ReplayedReply:
    stored = list(token_ids(message))
    if not stored and not _was_empty(message.x):
        return ReplayedReply(message, "impossible", 0, 0, reason="its tokens were not saved")
    try:
        params = _parameters(message.x)
        start = _continued_at(message.x, len(stored))
        prompt = _prompt(engine, tokens, conversation, message, params, stored[:start])
        if _timings(message.x).get("cache_n") == 0:
            engine.reset()
        closed = message.x.get("thought_closed")
        closed = closed - start if isinstance(closed, int) and closed >= start else None
        replayed, ended = _run(engine, prompt, params, stored[start:], cancelled, closed)
    except (LlamaCoreError, ValueError) as error:
        return ReplayedReply(message, "impossible", 0, len(stored), reason=str(error))
    matched = start + sum(1 for old, new in zip(stored[start:], replayed, strict=False) if old == new)
    if cancelled():
        return ReplayedReply(message, "cancelled", matched, len(stored))
    if matched == len(stored) and (len(replayed) == matched - start or not _ended_by_itself(message.x)):
        return ReplayedReply(message, "same", matched, len(stored))
    there = replayed[matched - start :][:1]
    return ReplayedReply(
        message, "different", matched, len(stored), _divergence(tokens, stored, there, matched, ended)
    )


def _run(
    engine: Engine,
    prompt: Prompt,
    params: SamplingParams,
    stored: list[int],
    cancelled: Callable[[], bool],
    thought_closed: int | None,
) -> tuple[list[int], bool]:
    """Generate to one token past the stored ones, or to the first that differs; whether the reply ended.

    thought_closed: the token at which a thought was ended from outside.
    """
    replayed: list[int] = []
    signals: dict[str, Callable[[], bool]] = {"cancelled": cancelled}
    if thought_closed is not None and engine.info.capabilities.thinks:
        # A budget that did so does it again by itself.
        signals["answer_now"] = lambda: len(replayed) >= thought_closed
    events = engine.stream(prompt, params, **signals)
    for event in events:
        if not isinstance(event, TokenEvent):
            continue
        replayed.append(event.id)
        at = len(replayed) - 1
        if at >= len(stored) or event.id != stored[at]:
            return replayed, False
    return replayed, True


def _divergence(
    tokens: TokenAccess, stored: list[int], there: list[int], position: int, ended: bool
) -> Divergence:
    old = stored[position : position + 1]
    decode = tokens.decode
    return Divergence(
        position,
        old[0] if old else None,
        there[0] if there and not ended else None,
        decode(old),
        decode(there),
        decode(stored[:position]),
    )


def _prompt(
    engine: Engine,
    tokens: TokenAccess,
    conversation: Conversation,
    message: Message,
    params: SamplingParams,
    begun: list[int],
) -> Prompt:
    """The prompt as it was. `begun`: the tokens of the reply that were there when it was continued.

    Chats of version 0.1 were read again from their text alone, so where the prompt is not as long as it was
    it is made once more without the tokens of the replies in it.
    """
    turns = conversation.turns_before(message)
    if begun:
        turns.append(Turn("assistant", tokens.decode(begun), tuple(begun)))
    expected, found = _prompt_length(message.x), 0
    for known in (turns, [replace(turn, ids=()) for turn in turns]):
        request = PromptRequest(tuple(known), params, continue_last=bool(begun))
        prompt = prepare_shortened(engine, request)
        found = len(prompt.ids or ())
        if expected in (None, found):
            return prompt
    raise ValueError(
        f"its prompt has {found:,} tokens now and had {expected:,}: another model, template or context size, "
        "or an earlier turn that has changed since"
    )


def _was_empty(x: Mapping[str, Any]) -> bool:
    """Whether the reply is known to have had no token at all."""
    return x.get("ids") in ([], ())


def _continued_at(x: Mapping[str, Any], count: int) -> int:
    """How many of the tokens earlier requests had made: of a continued reply only the last seed is known.

    `context` tells where the whole reply begins; the last request's prompt ended that many tokens later.
    """
    context, prompt_n = x.get("context"), _prompt_length(x)
    begins = context[0] if isinstance(context, list | tuple) and context else None
    if prompt_n is None or not isinstance(begins, int):
        return 0
    return prompt_n - begins if 0 <= prompt_n - begins <= count else 0


def _timings(x: Mapping[str, Any]) -> Mapping[str, Any]:
    timings = x.get("timings")
    return timings if isinstance(timings, Mapping) else {}


def _prompt_length(x: Mapping[str, Any]) -> int | None:
    timings = _timings(x)
    parts = [timings.get("cache_n"), timings.get("prompt_n")]
    whole = [part for part in parts if isinstance(part, int)]
    # A prompt that was never finished tells nothing about its length.
    return sum(whole) if len(whole) == 2 and timings.get("predicted_n") else None


def _ended_by_itself(x: Mapping[str, Any]) -> bool:
    return x.get("stop_reason") in ("stop", "length", "context", "loop")


def _parameters(x: Mapping[str, Any]) -> SamplingParams:
    """The parameters and the seed. ValueError where a reply cannot be drawn again."""
    params, seed = sampling_of(x), x.get("seed")
    if isinstance(seed, int):
        return replace(params, seed=seed)
    if params.temperature > 0:
        raise ValueError("its seed was not saved, because it was interrupted before its end")
    return params
