"""Two answers to one question: who gives them, what is said beforehand, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.comparing.sides import read_sides
from chat_app.chat.comparing.told import facts_of, parting
from chat_app.chat.recall import recall
from chat_app.chat.token_scores import scored_text
from chat_app.config.settings import Settings
from chat_app.engines.local import open_local_engine
from chat_app.models import beside
from llama_core.engine.batch.together import RepliesTogether
from llama_core.errors import NotEnoughMemoryError
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine, factory_of
from tests.support.fake_server import FakeServer, Reply, fake_server
from tests.support.stage import Stage

SEED = 3  # with which two answers of the tiny model part at whole tokens


async def compared(stage: Stage, text: str) -> Comparison:
    """Both have answered."""
    comparison = stage.session.comparisons.begin(read_sides(text))
    comparison._seed = SEED
    await comparison.prepare()
    stage.spawn(comparison.run())
    await stage.until(lambda: comparison.ended)
    return comparison


def texts(comparison: Comparison) -> list[str]:
    return ["".join(piece.text for piece in said) for said in comparison.answers]


def by_system(turns: Any) -> str:
    """Another reply with another system prompt."""
    first = turns[0]
    return "Ay, it is so, matey" if first["role"] == "system" else "Ay, it is true"


async def test_both_answer_the_last_question(stage: Stage) -> None:
    await stage.say("why?")
    stage.engine.script = by_system
    stage.engine.calls.clear()
    comparison = await compared(stage, "system You are a pirate.")
    assert texts(comparison) == ["Ay, it is true", "Ay, it is so, matey"]
    assert [turn["content"] for turn in stage.engine.calls[1][1]] == ["You are a pirate.", "why?"]
    assert parting(comparison).splitlines() == [
        "They part after 3 tokens:",
        "  1  “ true”  78 %",
        "  2  “ so,”  78 %",
    ]
    assert facts_of(comparison.contenders[0]) == "model.gguf · done · 4 tokens"
    # Nothing is in the chat, and prompts wait for the choice.
    assert stage.words() == ["why?", "You said: why?"]
    stage.session.submit("next")
    assert stage.session.queue == ["next"]
    comparison.leave()
    await stage.until(lambda: len(stage.path()) == 4 and stage.idle())


async def test_one_is_kept_as_the_branch_and_the_chat_stays_what_it_was(stage: Stage) -> None:
    first = await stage.say("why?")
    stage.engine.script = by_system
    comparison = await compared(stage, "system You are a pirate.")
    stage.spawn(comparison.keep(1))
    await stage.until(stage.idle)
    kept = stage.path()[-1]
    assert kept.content == "Ay, it is so, matey"
    assert kept.x["system"] == "You are a pirate."
    assert kept.x["guest"] == "system You are a pirate."
    assert [one.id for one in stage.session.conversation.siblings(kept.id)] == [first.id, kept.id]
    assert stage.on_disk()[-1].content == kept.content
    assert "".join(one.text for one in scored_text(stage.on_disk()[-1])) == kept.content
    assert stage.session.settings.system is None
    stored = stage.store.read(stage.session.chat.id)
    assert recall(stored, Settings(system="mine")).system == "mine", "a guest's prompt is not the chat's"
    # The other can still be kept, and none twice.
    await stage.session.comparisons.keep(0)
    await stage.session.comparisons.keep(1)
    assert stage.path()[-1].id == kept.id
    assert len(stage.session.conversation.siblings(kept.id)) == 3
    assert "guest" not in stage.session.conversation.siblings(kept.id)[-1].x


async def test_there_must_be_a_question_a_model_and_peace(stage: Stage) -> None:
    begin = stage.session.comparisons.begin
    with pytest.raises(ValueError, match="no question yet"):
        begin(read_sides("temperature 1"))
    with pytest.raises(ValueError, match="nothing to keep"):
        await stage.session.comparisons.keep(0)
    await stage.say("why?")
    stage.engine.script = stage.begun
    stage.session.submit("and?")
    await stage.until(lambda: stage.session.reply and stage.session.reply.tokens)
    with pytest.raises(ValueError, match="busy or not loaded"):
        begin(read_sides("temperature 1"))
    stage.session.stop()
    await stage.until(stage.idle)


async def test_stopping_keeps_what_is_there(stage: Stage) -> None:
    await stage.say("why?")
    stage.engine.script = stage.begun
    comparison = stage.session.comparisons.begin(read_sides("temperature 1.5"))
    stage.spawn(comparison.run())
    await stage.until(lambda: texts(comparison)[0] == "begun")
    comparison.stop()
    await stage.until(lambda: comparison.ended)
    stage.engine.gate.set()
    assert parting(comparison) == "They say the same as far as both came."
    stage.spawn(comparison.keep(0))
    await stage.until(stage.idle)
    assert (stage.path()[-1].content, stage.path()[-1].status) == ("begun", "stopped")


async def test_the_end_of_the_process_loses_nothing(stage: Stage) -> None:
    first = await stage.say("why?")
    stage.engine.script = stage.begun
    stage.session.comparisons.open = True
    comparison = stage.session.comparisons.begin(read_sides("temperature 1.5"))
    stage.spawn(comparison.run())
    await stage.until(lambda: texts(comparison)[0] == "begun")
    stage.session.save_now()
    stored = stage.store.read(stage.session.chat.id)
    assert stored.path()[-1].id == first.id, "the branch that was shown"
    assert [(one.content, one.status) for one in stored.siblings(first.id)][1:] == [("begun", "stopped")] * 2
    stage.engine.gate.set()
    await stage.until(lambda: comparison.ended)


async def test_a_side_that_fails_leaves_the_other(stage: Stage) -> None:
    await stage.say("why?")

    def script(turns: Any) -> Any:
        return ["half", RuntimeError("a fault")] if turns[0]["role"] == "system" else "whole"

    stage.engine.script = script
    comparison = await compared(stage, "system odd")
    assert texts(comparison) == ["whole", "half"]
    assert comparison.contenders[1].error == "RuntimeError: a fault"
    assert parting(comparison).startswith("They part at once:")
    stage.spawn(comparison.keep(1, 0))
    await stage.until(stage.idle)
    found = stage.session.conversation.siblings(stage.path()[-1].id)
    assert [(one.content, one.status) for one in found][1:] == [("half", "failed"), ("whole", "complete")]


async def test_what_was_cut_off_does_not_end_there(stage: Stage) -> None:
    await stage.say("why?")

    def script(turns: Any) -> Any:
        return ["whole", RuntimeError("a fault")] if turns[0]["role"] == "system" else "whole truth"

    stage.engine.script = script
    comparison = await compared(stage, "system odd")
    assert texts(comparison) == ["whole truth", "whole"]
    assert parting(comparison) == "They say the same as far as both came."
    stage.engine.script = lambda turns: "whole" if turns[0]["role"] == "system" else "whole truth"
    comparison.leave()
    assert parting(await compared(stage, "system odd")).splitlines()[-1] == "  2  ends here"


# Another model, beside the chat's own.


async def test_another_model_answers_after_the_chats_own(two: Any) -> None:
    await two.say("why?")
    comparison = await compared(two, f"model {two.other_file}")
    assert texts(comparison) == ["You said: why?", "You said nothing"]
    assert [one.model for one in comparison.contenders] == ["model.gguf", "other"]
    assert "They part after 1 token:" in parting(comparison)
    assert comparison.contenders[1].side.label == "model other.gguf"
    assert two.other.closed
    assert not two.engine.closed
    two.spawn(comparison.keep(1))
    await two.until(two.idle)
    kept = two.path()[-1]
    assert kept.x["model"] == "other"
    assert kept.x["model_file"] == two.other_file
    assert kept.x["guest"] == "this reply alone"
    assert two.session.model.info.name == "model.gguf"
    reply = await two.say("and?")
    assert reply.x["model"] == "model.gguf"


async def test_one_without_room_is_said_beforehand(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await two.say("why?")
    room = beside.Room(5 << 30, 3 << 30)
    monkeypatch.setattr(beside, "room_beside", lambda path, settings: room)
    comparison = two.session.comparisons.begin(read_sides(f"model {two.other_file}"))
    with pytest.raises(ValueError, match=r"needs 5\.0 GiB of memory .* 3\.0 GiB are free.*/retry"):
        await comparison.prepare()
    assert not two.session.generating
    with pytest.raises(ValueError, match="neither a file nor a known model"):
        await two.session.comparisons.begin(read_sides("model nowhere")).prepare()


async def test_one_that_does_not_load_is_told_in_its_place(two: Any) -> None:
    await two.say("why?")

    def opener(source: Path, settings: Any, on_progress: Any) -> Any:
        raise NotEnoughMemoryError("The weights", 5 << 30, 3 << 30, "take a smaller one")

    two.host._open = opener
    comparison = await compared(two, f"model {two.other_file}")
    assert texts(comparison) == ["You said: why?", ""]
    assert "The weights" in comparison.contenders[1].error
    comparison.leave()
    assert (await two.say("and?")).content == "You said: and?"


async def test_what_was_stopped_opens_no_other_model(two: Any) -> None:
    await two.say("why?")
    two.engine.script = two.begun
    comparison = two.session.comparisons.begin(read_sides(f"model {two.other_file}"))
    await comparison.prepare()
    two.spawn(comparison.run())
    await two.until(lambda: texts(comparison)[0] == "begun")
    comparison.stop()
    await two.until(lambda: comparison.ended)
    assert comparison.contenders[1].error == "It was stopped before it began."
    assert parting(comparison) == "", "what was never said parts from nothing"
    assert [facts_of(one) for one in comparison.contenders] == [
        "model.gguf · stopped · 1 token",
        "other.gguf · failed",
    ]
    assert not two.other.calls
    comparison.leave()


def test_the_room_that_a_model_needs_is_read_from_its_header(tiny_model: Path, llama_chat_home: Path) -> None:
    room = beside.room_beside(tiny_model, Settings(backend="numpy"))
    assert 100_000 < room.needed_bytes < 2_000_000
    assert room.fits
    assert not beside.Room(2, 1).fits


# Real engines.


async def test_one_model_answers_both_in_one_batch(
    tmp_path: Path, tiny_model: Path, batches: list[RepliesTogether]
) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.3, top_k=5, ignore_eos=True)
    settings = Settings(model=str(tiny_model), backend="numpy", threads=1, save=False, params=params)
    stage = Stage(tmp_path, None, settings, open_local_engine)
    stage.session.load_model(tiny_model)
    await stage.until(lambda: stage.session.model.info)
    await stage.say("a question of some length, so that its prompt is worth keeping")
    comparison = await compared(stage, "temperature 1.5")
    assert len(batches) == 1
    assert batches[0].computed_n == 2 + 2 * 11, "the prompt is in the context already"
    difference = comparison.difference()
    assert difference is not None
    shares = [comparison.share(place, difference) for place in (0, 1)]
    assert all(share is not None and 0 < share < 1 for share in shares)
    drawn = [one.candidate.reply for one in comparison.contenders if one.candidate]
    assert [one.finished.seed for one in drawn if one.finished] == [SEED, SEED]
    comparison.leave()
    await asyncio.to_thread(stage.host.close, 20)
    stage.session.chat.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    entry = {"token": "Hi", "logprob": -0.7, "top_logprobs": [{"token": "You", "logprob": -0.9}]}
    with fake_server(lambda asked: Reply(words=("Hi",), logprobs=[entry])) as one:
        yield one


async def test_a_server_is_compared_as_far_as_it_tells(tmp_path: Path, server: FakeServer) -> None:
    from chat_app.engines.sources import open_engine

    own = FakeEngine()

    def opener(source: Any, settings: Any, on_progress: Any) -> Any:
        if isinstance(source, Path):
            return factory_of(own)(source, settings, on_progress)
        return open_engine(source, settings, on_progress)

    stage = Stage(tmp_path, own, Settings(), opener)
    await stage.load()
    await stage.say("why?")
    comparison = await compared(stage, f"model openai:{server.url}#fake")
    assert texts(comparison) == ["You said: why?", "Hi"]
    assert "  2  “Hi”  50 %" in parting(comparison)
    stage.spawn(comparison.keep(1))
    await stage.until(stage.idle)
    assert stage.path()[-1].x["model"] == "fake"
    assert stage.session.looks.of(stage.path()[-1].id)
    await asyncio.to_thread(stage.host.close, 20)
    stage.session.chat.close()
