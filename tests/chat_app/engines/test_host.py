"""The engine's thread: order, cancelling, errors, and that the last token is never lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.config.settings import Settings
from chat_app.engines import news
from chat_app.engines.base import Prompt, Turn
from chat_app.engines.host import EngineHost
from chat_app.engines.lock_turns import SHORT_S, USUAL_S
from llama_core.errors import ModelFormatError, NumericalError
from llama_core.events import Finished, LoadProgress, TextDelta, TokenEvent
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine, factory_of

PARAMS = SamplingParams()
PROMPT = Prompt((Turn("user", "one two three"),), (1, 1000, 1001, 1002))
PATH = Path("model.gguf")


class Desk:
    """A host and all the news it ever gave."""

    def __init__(self, engine: FakeEngine, factory: Any = None) -> None:
        self.woken = threading.Event()
        self.host = EngineHost(self.woken.set, factory or factory_of(engine))
        self.news: list[news.News] = []

    def until(self, found: Callable[[list[news.News]], object], timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            self.news += self.host.drain()
            if found(self.news):
                return
            assert time.monotonic() < deadline, self.news
            self.woken.wait(0.01)
            self.woken.clear()

    def until_kind(self, kind: type) -> Any:
        self.until(lambda seen: any(isinstance(item, kind) for item in seen))
        return next(item for item in self.news if isinstance(item, kind))

    def until_finished(self, request_id: int) -> Finished:
        def is_end(item: news.News) -> bool:
            return (
                isinstance(item, news.ReplyEvent)
                and item.request_id == request_id
                and isinstance(item.event, Finished)
            )

        self.until(lambda seen: any(map(is_end, seen)))
        last = next(item for item in self.news if is_end(item))
        assert isinstance(last, news.ReplyEvent)
        assert isinstance(last.event, Finished)
        return last.event

    def text(self, request_id: int) -> str:
        return "".join(
            item.event.text
            for item in self.news
            if isinstance(item, news.ReplyEvent)
            and item.request_id == request_id
            and isinstance(item.event, TextDelta)
        )


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def desk(engine: FakeEngine) -> Iterator[Desk]:
    found = Desk(engine)
    found.host.load(PATH, Settings())
    yield found
    engine.gate.set()
    found.host.close(timeout=20)


def test_loads_and_reports_progress(desk: Desk) -> None:
    ready = desk.until_kind(news.EngineReady)
    assert ready.info.name == "model.gguf"
    assert ready.info.ctx_size == 2048
    stages = [
        item.progress.done_bytes for item in desk.news if isinstance(item, news.Loading) and item.progress
    ]
    assert stages[-1] == 96 * 1024 * 1024
    assert desk.until_kind(news.MemoryMeasured).report.kv_used_bytes == 0


def test_each_stage_of_a_load_is_told_even_in_a_rush(engine: FakeEngine) -> None:
    def factory(path: Path, settings: Settings, on_progress: Any) -> FakeEngine:
        for done in range(1000):
            on_progress(LoadProgress("weights", done, 1000))
        on_progress(LoadProgress("kernels", 0, 1))
        return engine

    desk = Desk(engine, factory)
    desk.host.load(PATH, Settings())
    desk.until_kind(news.EngineReady)
    told = [item.progress.stage for item in desk.news if isinstance(item, news.Loading) and item.progress]
    assert told[-1] == "kernels"
    assert len(told) < 1000
    desk.host.close(20)


def test_a_reply_arrives_whole_and_in_order(desk: Desk, engine: FakeEngine) -> None:
    engine.script = lambda turns: " ".join(map(str, range(2000)))
    request = desk.host.reply(PROMPT, PARAMS)
    finished = desk.until_finished(request)
    assert finished.reason == "stop"
    assert desk.text(request) == " ".join(map(str, range(2000)))
    events = [item.event for item in desk.news if isinstance(item, news.ReplyEvent)]
    assert [e.index for e in events if isinstance(e, TokenEvent)] == list(range(2000))


def test_the_first_text_wakes_the_screen_at_once(desk: Desk, engine: FakeEngine) -> None:
    """With the stream held after one token, that token is delivered without any timer."""
    desk.until_kind(news.MemoryMeasured)

    def one_then_hold(turns: Any) -> Any:
        def pieces() -> Iterator[str]:
            yield "first"
            engine.gate.clear()
            yield " second"

        return pieces()

    engine.script = one_then_hold
    request = desk.host.reply(PROMPT, PARAMS)
    deadline = time.monotonic() + 20
    while not desk.text(request):
        assert desk.woken.wait(max(0.0, deadline - time.monotonic())), "never woken"
        desk.woken.clear()
        desk.news += desk.host.drain()
    assert desk.text(request) == "first"


def test_cancelling_ends_with_finished(desk: Desk, engine: FakeEngine) -> None:
    engine.script = lambda turns: ["word "] * 100_000
    engine.delay_s = 0.001
    request = desk.host.reply(PROMPT, PARAMS)
    desk.until(lambda seen: len(desk.text(request)) > 50)
    desk.host.cancel(request)
    finished = desk.until_finished(request)
    assert finished.reason == "cancelled"
    assert len(finished.ids) * 5 == len(desk.text(request))


def test_cancelling_all_reaches_what_still_waits(desk: Desk, engine: FakeEngine) -> None:
    engine.gate.clear()
    first = desk.host.reply(PROMPT, PARAMS)
    second = desk.host.reply(PROMPT, PARAMS)
    desk.host.cancel()
    assert desk.until_finished(first).reason == "cancelled"
    assert desk.until_finished(second).reason == "cancelled"


@pytest.mark.parametrize(
    "error", [NumericalError("The model produced NaN."), MemoryError(), RuntimeError("x")]
)
@pytest.mark.parametrize("place", [0, 1, 7])
def test_a_failure_leaves_the_engine_usable(
    desk: Desk, engine: FakeEngine, error: Exception, place: int
) -> None:
    engine.script = lambda turns: [*["word "] * place, error]
    broken = desk.host.reply(PROMPT, PARAMS)
    failed = desk.until_kind(news.ReplyFailed)
    assert failed.request_id == broken
    assert failed.text
    assert desk.text(broken) == "word " * place
    engine.script = lambda turns: "fine"
    request = desk.host.reply(PROMPT, PARAMS)
    assert desk.until_finished(request).reason == "stop"
    assert desk.text(request) == "fine"


def test_a_stream_without_an_end_is_a_failure(
    desk: Desk, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.until_kind(news.EngineReady)
    monkeypatch.setattr(engine, "stream", lambda *prompt, **rest: iter([TextDelta("half")]))
    desk.host.reply(PROMPT, PARAMS)
    assert "last record" in desk.until_kind(news.ReplyFailed).text


def test_a_bad_file_is_a_sentence_and_another_can_be_loaded(engine: FakeEngine) -> None:
    good = factory_of(engine)

    def factory(path: Path, *rest: Any) -> FakeEngine:
        if path.name == "bad.gguf":
            raise ModelFormatError(path, "magic", "found b'PK', expected b'GGUF'")
        return good(path, *rest)

    desk = Desk(engine, factory)
    desk.host.load(Path("bad.gguf"), Settings())
    assert "magic" in desk.until_kind(news.LoadFailed).text
    desk.host.reply(PROMPT, PARAMS)
    assert "No model" in desk.until_kind(news.ReplyFailed).text
    desk.host.load(PATH, Settings())
    desk.until_kind(news.EngineReady)
    desk.host.close(timeout=20)
    assert engine.closed


def test_of_several_loads_only_the_last_is_told_of(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    good, begun, go_on = factory_of(engine), threading.Event(), threading.Event()
    opened: list[str] = []

    def factory(path: Path, settings: Settings, on_progress: Any) -> FakeEngine:
        opened.append(path.stem)
        if path.stem == "first":
            begun.set()
            assert go_on.wait(20)
            on_progress(LoadProgress("weights", 1, 2))  # which ends it
            opened.append("too far")
        return good(path, settings, on_progress)

    desk = Desk(engine, factory)
    desk.host.load(Path("first"), Settings())
    assert begun.wait(20)
    desk.host.load(Path("second"), Settings())
    desk.host.load(Path("third"), Settings())
    go_on.set()
    desk.until_kind(news.EngineReady)
    desk.host.close(timeout=20)
    desk.news += desk.host.drain()
    assert opened == ["first", "third"]
    assert [one.getMessage() for one in caplog.records] == ["a load was given up for another"]
    assert not any(isinstance(item, news.LoadFailed) for item in desk.news)
    assert sum(isinstance(item, news.EngineReady) for item in desk.news) == 1


def test_what_is_drained_of_a_load_counts_no_more_once_another_is_asked_for(engine: FakeEngine) -> None:
    desk = Desk(engine)
    desk.host.load(Path("first"), Settings())
    desk.host.ask(lambda engine: None).result(20)
    drained = desk.host.drain()
    assert isinstance(next(drained), news.Loading)
    desk.host.load(Path("second"), Settings())
    assert not any(isinstance(item, news.Loading | news.EngineReady) for item in drained)
    desk.until_kind(news.EngineReady)
    desk.host.close(timeout=20)


def test_reset_is_reported_after_it_happened(desk: Desk, engine: FakeEngine) -> None:
    request = desk.host.reply(PROMPT, PARAMS)
    desk.until_finished(request)
    desk.host.reset()
    desk.until_kind(news.CacheReset)
    assert engine.cached == []


def test_questions_are_answered_on_the_engines_thread(desk: Desk) -> None:
    assert desk.host.ask(lambda engine: threading.current_thread().name).result(20) == "engine"
    with pytest.raises(ZeroDivisionError):
        desk.host.ask(lambda engine: 1 // 0).result(20)


def test_closing_does_not_wait_for_a_deaf_engine(engine: FakeEngine) -> None:
    desk = Desk(engine)
    desk.host.load(PATH, Settings())
    desk.until_kind(news.EngineReady)
    release = threading.Event()
    desk.host.ask(lambda engine: release.wait(30))
    started = time.monotonic()
    desk.host.close(timeout=0.2)
    assert time.monotonic() - started < 10
    release.set()
    desk.host.close(timeout=20)  # or its thread would reach into the tests that follow


def test_the_lock_changes_hands_as_the_model_needs_it(engine: FakeEngine) -> None:
    engine.script = lambda turns: "three words here"
    desk = Desk(engine)
    desk.host.load(PATH, Settings())
    desk.until_kind(news.EngineReady)
    assert sys.getswitchinterval() == pytest.approx(SHORT_S)
    for seconds, interval in ((0.0004, USUAL_S), (0.004, SHORT_S)):
        engine.step_s = seconds
        desk.until_finished(desk.host.reply(PROMPT, PARAMS))
        assert sys.getswitchinterval() == pytest.approx(interval)
    desk.host.close(timeout=20)
    assert sys.getswitchinterval() == pytest.approx(USUAL_S)
