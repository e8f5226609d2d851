"""Replaying a chat: the same engine gives "same", and any change of token, seed, prompt or end is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from chat_app.chat.conversation import Conversation, Message
from chat_app.chat.recall import sampling_json
from chat_app.chat.replay import ReplayedReply, replay_chat
from chat_app.chat.reply import GrowingReply
from chat_app.engines.base import Capabilities, EngineInfo, Prompt, PromptRequest, Token
from llama_core.events import Event, Finished, PrefillProgress, TextDelta, Timings, TokenEvent
from llama_core.sampling.params import SamplingParams

END = 0


class LetterTokens:
    """One character, one token."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def describe(self, ids: Sequence[int]) -> list[Token]:
        return [Token(one, chr(one), chr(one).encode()) for one in ids]

    def ends_reply(self, token_id: int) -> bool:
        return token_id == END

    def logits(self, ids: Sequence[int]) -> Any:
        raise NotImplementedError


@dataclass
class ToyEngine:
    """Draws letters from the seed and the prompt, so that a change of either changes the reply."""

    salt: int = 0
    next_seed: int = 100
    cached: list[int] = field(default_factory=list)
    resets: int = 0
    tokens: LetterTokens | None = field(default_factory=LetterTokens)
    ctx_size: int = 10_000

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("toy", None, "toy", 1, self.ctx_size, 0, True, capabilities=Capabilities())

    def reset(self) -> None:
        self.cached = []
        self.resets += 1

    steps = None

    def memory(self) -> None:
        return None

    def close(self) -> None: ...

    def prepare(self, request: PromptRequest) -> Prompt:
        text = "".join(f"<{turn.role[0]}>{turn.content}" for turn in request.turns)
        ids = tuple(map(ord, text if request.continue_last else text + "<a>"))
        fits = len(ids) <= self.ctx_size
        begun_n = len(request.turns[-1].content) if request.continue_last else 0
        return Prompt(request.turns, ids, fits=fits, drop=() if fits else (0, 1), begun_n=begun_n)

    def stream(
        self, prompt: Prompt, params: SamplingParams, *, cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        prompt_ids = prompt.ids or ()
        cache_n = next(
            (at for at, (a, b) in enumerate(zip(self.cached, prompt_ids, strict=False)) if a != b),
            min(len(self.cached), len(prompt_ids) - 1),
        )
        yield PrefillProgress(cache_n, 0, len(prompt_ids) - cache_n, 0.0)
        self.next_seed += 1
        seed = params.seed if params.seed is not None else self.next_seed
        rng = Random(f"{seed} {self.salt} {list(prompt_ids)}")
        ids: list[int] = []
        reason: Any = "length"
        for index in range(30 if params.max_tokens is None else params.max_tokens):
            if cancelled():
                reason = "cancelled"
                break
            token = END if rng.random() < 0.02 else rng.randint(97, 122)
            if token == END:
                reason = "stop"
                break
            ids.append(token)
            yield TokenEvent(index, token, 0.0, 0.0, len(prompt_ids) + index)
            yield TextDelta(chr(token))
        self.cached = [*prompt_ids, *ids]
        timings = Timings(cache_n=cache_n, prompt_n=len(prompt_ids) - cache_n, predicted_n=len(ids))
        yield Finished(reason, timings, seed, tuple(ids))


def reply(engine: Any, chat: Conversation, params: SamplingParams, stop_after: int | None = None) -> Message:
    """A reply made and recorded the way the app does it."""
    request = PromptRequest(tuple(chat.turns(None)), params)
    prompt = engine.prepare(request)
    if not prompt.fits:
        prompt = engine.prepare(request.without(prompt.drop))
    message = chat.add("assistant", "", status="partial")
    growing = GrowingReply(0, message, {"parameters": sampling_json(params)})
    events = engine.stream(
        prompt,
        params,
        cancelled=lambda: stop_after is not None and len(growing.tokens) >= stop_after,
    )
    for event in events:
        growing.take(event)
    ended = growing.ended()
    chat.update(ended)
    return ended


@pytest.fixture
def engine() -> Any:
    return ToyEngine()


@pytest.fixture
def chat(engine: Any) -> Conversation:
    """Three replies in two branches, drawn at random."""
    talk = Conversation("c")
    talk.add("user", "first question")
    reply(engine, talk, SamplingParams())
    talk.add("user", "second question")
    reply(engine, talk, SamplingParams(max_tokens=12))
    talk.select(talk.path()[2].id)
    reply(engine, talk, SamplingParams(temperature=1.5))
    return talk


def outcomes(engine: Any, chat: Conversation) -> list[str]:
    return [one.outcome for one in replay_chat(engine, chat)]


def through_json(chat: Conversation) -> Conversation:
    """The chat as it comes back from disk."""
    from chat_app.store.records import build_conversation, from_row, to_row

    records = [from_row(to_row(message)) for message in chat]
    return build_conversation(chat.id, chat.title, [record for record in records if record is not None])


def test_the_same_engine_says_the_same_in_every_branch(chat: Conversation) -> None:
    again = ToyEngine(cached=[1, 2, 3])
    found = list(replay_chat(again, through_json(chat)))
    assert [one.outcome for one in found] == ["same"] * 3
    assert [one.matched for one in found] == [len(one.message.x["ids"]) for one in found]
    assert again.resets >= 1


def test_another_engine_is_told_by_the_first_token_that_differs(chat: Conversation) -> None:
    found: ReplayedReply = next(replay_chat(ToyEngine(salt=1), chat))
    assert found.outcome == "different"
    assert found.divergence is not None
    stored = found.message.x["ids"]
    assert found.divergence.position == found.matched < len(stored)
    assert found.divergence.stored_id == stored[found.matched] != found.divergence.replayed_id
    assert found.divergence.before == found.message.content[: found.matched]
    assert found.divergence.stored_text == found.message.content[found.matched]


@pytest.mark.parametrize("place", [0, -1])
def test_a_changed_token_is_found_at_its_place(engine: Any, chat: Conversation, place: int) -> None:
    first = next(message for message in chat if message.role == "assistant")
    ids = list(first.x["ids"])
    ids[place] = 65
    chat.update(replace(first, x={**first.x, "ids": ids}))
    found = next(replay_chat(engine, chat))
    assert found.divergence is not None
    assert (found.divergence.position, found.divergence.stored_id) == (place % len(ids), 65)


def test_a_reply_that_ends_earlier_or_later_is_different(engine: Any, chat: Conversation) -> None:
    first = next(message for message in chat if message.role == "assistant")
    ids = list(first.x["ids"])
    chat.update(replace(first, x={**first.x, "ids": ids[:-1]}))
    longer = next(replay_chat(engine, chat)).divergence
    assert longer is not None
    assert (longer.stored_id, longer.replayed_id) == (None, ids[-1])
    chat.update(replace(first, x={**first.x, "ids": [*ids, 65]}))
    shorter = next(replay_chat(engine, chat)).divergence
    assert shorter is not None
    assert shorter.stored_id == 65
    assert shorter.position == len(ids)


def test_a_stopped_reply_need_only_begin_the_same(engine: Any) -> None:
    talk = Conversation("c")
    talk.add("user", "go on for long")
    stopped = reply(engine, talk, SamplingParams(seed=5), stop_after=2)
    assert stopped.status == "stopped"
    assert outcomes(engine, talk) == ["same"]


def test_a_continued_reply_is_replayed_from_where_it_went_on(engine: Any) -> None:
    talk = Conversation("c")
    talk.add("user", "go on for long")
    begun = reply(engine, talk, SamplingParams(), stop_after=2)
    prompt = engine.prepare(PromptRequest(tuple(talk.turns(None)), SamplingParams(), continue_last=True))
    growing = GrowingReply(0, begun, {"parameters": begun.x["parameters"]}, prompt=prompt)
    for event in engine.stream(prompt, SamplingParams(), cancelled=lambda: False):
        growing.take(event)
    ended = growing.ended()
    talk.update(ended)
    (found,) = replay_chat(engine, talk)
    assert (found.outcome, found.matched) == ("same", len(ended.x["ids"]))


def test_turns_that_were_dropped_are_dropped_again() -> None:
    engine: Any = ToyEngine(ctx_size=50)
    talk = Conversation("c")
    for number in range(2):
        talk.add("user", f"question {number} " * 2)
        reply(engine, talk, SamplingParams(seed=number, max_tokens=10))
    assert outcomes(ToyEngine(ctx_size=50), talk) == ["same", "same"]
    roomy = list(replay_chat(ToyEngine(), talk))
    assert roomy[1].outcome == "impossible"
    assert "context size" in roomy[1].reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": None}, "tokens were not saved"),
        ({"ids": [1, "x"]}, "tokens were not saved"),
        ({"parameters": None}, "parameters were not saved"),
        ({"parameters": {"temperature": -1}}, "temperature"),
        ({"seed": None}, "seed was not saved"),
        ({"timings": {"cache_n": 0, "prompt_n": 999, "predicted_n": 1}}, "had 999"),
    ],
)
def test_what_cannot_be_replayed_says_why_and_the_rest_goes_on(
    engine: Any, chat: Conversation, change: dict[str, Any], reason: str
) -> None:
    first = next(message for message in chat if message.role == "assistant")
    chat.update(replace(first, x={**first.x, **change}))
    found = list(replay_chat(engine, chat))
    assert found[0].outcome == "impossible"
    assert reason in found[0].reason
    assert [one.outcome for one in found[1:]] == ["same", "same"]


def test_replaying_can_be_stopped(engine: Any, chat: Conversation) -> None:
    asked = iter([False] * 3 + [True] * 1000)
    found = list(replay_chat(engine, chat, lambda: next(asked)))
    assert [one.outcome for one in found] == ["cancelled"]
