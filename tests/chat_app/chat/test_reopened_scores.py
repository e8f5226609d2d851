"""A chat opened from disk tells how sure its replies were, and what else could have stood there."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.conversation import Message, token_ids
from chat_app.chat.recall import written_by_another
from chat_app.chat.token_scores import TokenScores, scored_text
from chat_app.chat.token_walk import TokenWalk
from chat_app.config.settings import Settings
from llama_core.constraints.grammar import Grammar
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage

PARAMS = SamplingParams(max_tokens=12, temperature=1.0, seed=1, ignore_eos=True)


async def reopened(stage: Stage) -> None:
    """The chat, left and opened again."""
    chat_id = stage.session.chat.id
    await stage.session.new_chat()
    await stage.session.open_chat(chat_id)
    await stage.until(stage.idle)


async def answer(stage: Stage, work: Any) -> Any:
    """What `work` returns, while the stage takes the engine's news."""
    asked = asyncio.ensure_future(work)
    await stage.until(asked.done)
    return asked.result()


@pytest.fixture
async def real(tmp_path: Path, tiny_model: Path) -> AsyncIterator[Stage]:
    """A chat with a real model, of random weights, kept on disk."""
    settings = Settings(model=str(tiny_model), backend="numpy", threads=1, kv_files_mib=0, params=PARAMS)
    async with Stage.with_model(tmp_path, settings) as stage:
        yield stage


async def looked_at(stage: Stage, reply: Message) -> list[float]:
    """How probable each token of a reply is, computed anew."""
    branches = stage.session.branches
    tokens = await answer(stage, branches.reply_tokens(reply.id))
    looks = [await answer(stage, branches.look_at(tokens, at)) for at in range(len(tokens.ids))]
    return [one.chosen.probability for one in looks]


async def test_what_is_kept_is_what_the_model_says_of_it_again(real: Stage) -> None:
    """Of a reply, and of one that was held to a rule and then went on without: the model's own numbers."""
    plain = await real.say("a question")
    change = real.session.change_settings
    change(replace(real.session.settings, params=replace(PARAMS, grammar=Grammar("regex", "[a-z ]{8,20}"))))
    await real.say("another")
    change(replace(real.session.settings, params=PARAMS))
    await reopened(real)
    real.spawn(real.session.branches.continue_reply(real.path()[-1].id))
    await real.until(real.idle)
    await reopened(real)
    held = real.path()[-1]
    assert len(token_ids(held)) > 12, "it went on"
    for reply in (real.session.conversation.get(plain.id), held):
        scores = TokenScores.of(reply)
        assert "".join(one.text for one in scored_text(reply)) == reply.content
        again = await looked_at(real, reply)
        assert [math.exp(one) for one in scores.logprobs[: len(again)]] == pytest.approx(again, abs=1e-4)


async def test_an_alternative_keeps_the_numbers_of_what_stands_before_it(real: Stage) -> None:
    reply = await real.say("a question")
    await reopened(real)
    branches = real.session.branches
    tokens = await answer(real, branches.reply_tokens(reply.id))
    look = await answer(real, branches.look_at(tokens, 5))
    other = next(one for one in look.top if one.id != tokens.ids[5])
    real.spawn(branches.take_alternative(tokens, 5, other.id))
    await real.until(real.idle)
    await reopened(real)
    branch = real.path()[-1]
    old, new = TokenScores.of(reply).logprobs, TokenScores.of(branch).logprobs
    assert new[:5] == old[:5]
    assert math.isnan(new[5]), "nobody drew it"
    assert not any(map(math.isnan, new[6:]))
    assert len(new) == len(branch.x["ids"])


async def test_other_models_tell_nothing_of_a_reply(two: Any) -> None:
    """The tint is the writer's; what else could stand there is refused, and told whom to ask."""
    reply = await two.say("why?")
    await reopened(two)
    expected = scored_text(reply)
    assert "".join(one.text for one in expected) == reply.content
    two.session.load_model(Path(two.other_file))
    await two.until(lambda: two.session.model.info is not None and two.session.model.info.name == "other")
    assert scored_text(two.path()[-1]) == expected
    problem = TokenWalk(two.session, reply.id).problem
    assert problem.startswith("model.gguf wrote this reply, and other is loaded")
    with pytest.raises(ValueError, match="only its writer can look into"):
        await two.session.branches.reply_tokens(reply.id)


@pytest.mark.parametrize(
    ("x", "sha256", "other"),
    [
        ({}, "a", False),
        ({"model": "model.gguf"}, "a", False),
        ({"model": "model.gguf", "model_sha256": "a"}, "", False),
        ({"model": "model.gguf", "model_sha256": "a"}, "a", False),
        ({"model": "renamed", "model_sha256": "a"}, "a", False),
        ({"model": "model.gguf", "model_sha256": "b"}, "a", True),
        ({"model": "renamed"}, "a", True),
        ({"model": "re\x1b[31mnamed"}, "a", True),
    ],
)
def test_who_wrote_a_reply_is_known_by_the_file_and_else_by_the_name(
    x: dict[str, str], sha256: str, other: bool
) -> None:
    told = written_by_another(x, FakeEngine().info, sha256)
    assert bool(told) == other
    assert "\x1b" not in told


def dumped(path: Path) -> str:
    """All that a database holds, as text."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


async def test_a_deleted_chat_leaves_no_numbers(stage: Stage) -> None:
    await stage.say("why?")
    chat_id = stage.session.chat.id
    await stage.session.new_chat()
    assert "logprobs" in dumped(stage.store.database.path)
    stage.store.remove(chat_id)
    assert "logprobs" not in dumped(stage.store.database.path)
