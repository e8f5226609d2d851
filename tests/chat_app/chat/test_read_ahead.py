"""What will be sent is read while it is still typed: what is read, when it stops, what is left to compute."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.attachments.attachment import Attachment
from chat_app.chat.read_ahead import LONG_TEXT
from chat_app.config.settings import Settings
from chat_app.engines.base import Capabilities
from chat_app.engines.local import LEAST_AHEAD, LocalEngine
from llama_core.engine.load import load_engine
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage

AHEAD = Capabilities(reads_ahead=True)
FILE = Attachment("notes.txt", "/notes.txt", "one line of it\n" * 40, typed="notes.txt")
OTHER = Attachment("b.txt", "/b.txt", "another line\n" * 40, typed="b.txt")

MakeStage = Callable[..., Any]


@pytest.fixture
async def make_stage(tmp_path: Path) -> AsyncIterator[MakeStage]:
    """make_stage(engine, **settings): a loaded model that begins to read ahead at once."""
    made: list[Stage] = []

    async def make(engine: Any = None, **settings: Any) -> Stage:
        engine = engine or FakeEngine(capabilities=AHEAD, ctx_size=4096)
        stage = Stage(tmp_path, engine, Settings(**settings))
        stage.session.ahead.settle_s = 0.0
        made.append(stage)
        await stage.load()
        return stage

    yield make
    for stage in made:
        if isinstance(stage.engine, FakeEngine):
            stage.engine.gate.set()
        await asyncio.to_thread(stage.host.close, 20)
        stage.session.chat.close()


def read(stage: Stage) -> list[str]:
    """How the beginnings end that the engine was to read."""
    return [content for name, content in stage.engine.calls if name == "ahead"]


async def rest(stage: Stage) -> None:
    """Time enough for what should not happen."""
    for _ in range(20):
        await stage.session.take_news()
        await asyncio.sleep(0.001)


async def read_whole(stage: Stage) -> None:
    await stage.until(lambda: stage.view.ahead and stage.view.ahead[-1].endswith(" read"))


async def test_a_file_is_read_while_the_question_is_typed(make_stage: MakeStage) -> None:
    stage = await make_stage()
    stage.session.ahead.follow("what is in @notes.txt", [FILE])
    await read_whole(stage)
    assert stage.view.ahead[0].startswith("reading notes.txt ahead 0 %")
    stage.session.ahead.follow("what is in @notes.txt?", [FILE])
    await rest(stage)
    (content,) = read(stage)
    assert content.startswith('<file name="notes.txt">\none line')
    assert content.endswith("</file>\n\n")
    assert stage.view.ahead[-1] == "notes.txt read"
    stage.session.ahead.follow("")
    assert stage.view.ahead[-1] == ""


async def test_nothing_is_read_where_it_is_not_wanted(make_stage: MakeStage) -> None:
    stage = await make_stage(read_ahead=False)
    stage.session.ahead.follow("see @notes.txt", [FILE])
    other = await make_stage(FakeEngine())  # such as a server: nothing is sent there unasked
    other.session.ahead.follow("see @notes.txt", [FILE])
    third = await make_stage()
    third.session.ahead.follow("  ", [])
    for one in (stage, other, third):
        await rest(one)
        assert read(one) == []


def holding(stage: Stage) -> Callable[[], object]:
    """Whether the engine stands in the middle of what it reads."""
    return lambda: any(text.startswith("reading") for text in stage.view.ahead)


async def test_sending_stops_it_and_what_was_read_is_not_computed_again(make_stage: MakeStage) -> None:
    stage = await make_stage()
    stage.engine.gate.clear()
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(holding(stage))
    began = time.monotonic()
    stage.session.submit("hello")
    assert stage.view.ahead[-1] == ""
    await stage.until(lambda: [name for name, _ in stage.engine.calls][-1] == "chat")
    assert time.monotonic() - began < 10, "the gate is still shut: only a cut can have ended it"
    stage.engine.gate.set()
    await stage.until(stage.idle)


@pytest.mark.parametrize("files", [[], [OTHER]])
async def test_a_file_that_is_taken_out_is_read_no_more(
    make_stage: MakeStage, files: list[Attachment]
) -> None:
    stage = await make_stage()
    stage.engine.gate.clear()
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(holding(stage))
    stage.session.ahead.follow("@b.txt", files)
    assert stage.view.ahead[-1] == ""
    await stage.until(lambda: len(read(stage)) == 2)
    assert read(stage)[1].startswith('<file name="b.txt">' if files else "")


async def test_another_chat_ends_it(make_stage: MakeStage) -> None:
    stage = await make_stage()
    stage.engine.gate.clear()
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(holding(stage))
    await stage.session.new_chat()
    stage.session.ahead.follow("")
    assert stage.view.ahead[-1] == ""
    await stage.session.ask(lambda engine: None)  # would wait for ever


async def test_another_file_behind_it_lets_it_go_on(make_stage: MakeStage) -> None:
    stage = await make_stage()
    stage.engine.gate.clear()
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(holding(stage))
    stage.session.ahead.follow("@notes.txt @b.txt", [FILE, OTHER])
    await rest(stage)
    assert len(read(stage)) == 1
    stage.engine.gate.set()
    await stage.until(lambda: stage.view.ahead[-1] == "2 files read")
    assert read(stage)[1].startswith(read(stage)[0])


async def test_what_else_is_asked_goes_first_and_then_it_goes_on(make_stage: MakeStage) -> None:
    stage = await make_stage()
    stage.engine.gate.clear()
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(holding(stage))
    assert await stage.session.ask(lambda engine: "answered") == "answered"
    stage.engine.gate.set()
    await read_whole(stage)
    assert len(read(stage)) == 2


async def test_a_long_text_is_read_and_what_is_typed_behind_it_lets_it_go_on(
    make_stage: MakeStage,
) -> None:
    stage = await make_stage()
    text = "pasted words " * (LONG_TEXT // 10)
    stage.session.ahead.follow(text)
    await read_whole(stage)
    assert read(stage) == [text]
    assert stage.view.ahead[-1] == "your text read"
    stage.session.ahead.follow(text + "what")
    await stage.until(lambda: len(read(stage)) == 2)
    stage.session.ahead.follow("other " + text)
    assert stage.view.ahead[-1] == ""


async def test_a_failure_is_quiet_and_not_tried_again(make_stage: MakeStage) -> None:
    stage = await make_stage()
    tries: list[Any] = []
    stage.engine.read_ahead = lambda request, *, cancelled: tries.append(1) or 1 // 0
    stage.session.ahead.follow("@notes.txt", [FILE])
    await stage.until(lambda: tries)
    stage.session.ahead.follow("@notes.txt now", [FILE])
    await rest(stage)
    assert len(tries) == 1
    assert stage.view.notes == []


@pytest.fixture
def real(tiny_model: Path) -> LocalEngine:
    return LocalEngine(load_engine(tiny_model, backend="numpy", threads=1), tiny_model)


PARAMS = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
SHORT = Attachment("notes.txt", "/notes.txt", "a line\n" * 20, typed="notes.txt")


async def test_after_enter_only_the_question_is_computed(
    make_stage: MakeStage, real: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text(SHORT.text)
    monkeypatch.chdir(tmp_path)
    stage = await make_stage(real, params=PARAMS)
    stage.session.ahead.follow("what is in @notes.txt", [SHORT])
    await read_whole(stage)
    reply = await stage.say("what is in @notes.txt?")
    ids = real.tokens.encode("what is in @notes.txt?<|im_end|>\n<|im_start|>assistant\n")
    assert reply.x["timings"]["prompt_n"] < len(ids) + 3
    assert reply.x["timings"]["cache_n"] > len(SHORT.text)


async def test_a_chat_that_the_engine_has_not_read_is_read_while_one_types(
    make_stage: MakeStage, real: LocalEngine
) -> None:
    stage = await make_stage(real, params=PARAMS)
    await stage.say("a question that is long enough " * 3)
    stage.session.ahead.follow("and")
    await rest(stage)
    assert stage.view.ahead == [], "it is held already"
    stage.session.reset_cache()  # as another model, or another start of the program
    stage.session.ahead.follow("and?")
    await read_whole(stage)
    assert stage.view.ahead[-1] == "the chat read"
    reply = await stage.say("and?")
    assert reply.x["timings"]["prompt_n"] < LEAST_AHEAD


def test_what_is_under_way_stops_between_two_layers(real: LocalEngine) -> None:
    """Asked from another thread, as the screen does."""
    stop = threading.Event()
    model, seen = real._engine.model, []
    forward = model.forward

    def slow(ids: Any, cache: Any, *, logits: Any, cancelled: Any) -> Any:
        seen.append(cancelled())
        stop.set()
        return forward(ids, cache, logits=logits, cancelled=cancelled)

    model.forward = slow  # type: ignore[method-assign]
    request = real_request("x" * 400)
    assert [one.done_n for one in real.read_ahead(request, cancelled=stop.is_set)] == [0]
    assert seen == [False]
    assert real._engine.engine.cached_ids == ()
    real.close()


def real_request(content: str) -> Any:
    from chat_app.engines.base import PromptRequest, Turn

    return PromptRequest((Turn("user", content),), PARAMS)


def test_what_would_not_fit_is_not_read(real: LocalEngine) -> None:
    assert list(real.read_ahead(real_request("x" * 600), cancelled=lambda: False)) == []
    assert real._engine.engine.cached_ids == ()
    real.close()
