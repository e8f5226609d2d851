"""The model behind a chat: loaded anew for another context, known by its hash, gone when a load fails."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.chat.loaded_model import LoadedModel
from chat_app.chat.metrics import PanelMetrics
from chat_app.config.settings import Settings, set_parameter
from chat_app.engines import news
from chat_app.engines.base import EngineInfo
from chat_app.models.speeds import Speed, measured_speeds
from llama_core.events import LoadProgress
from llama_core.sampling.params import SamplingParams
from tests.support.stage import Stage


def info_of(stage: Stage, path: str) -> EngineInfo:
    assert stage.session.model.info is not None
    return replace(stage.session.model.info, path=Path(path))


async def test_a_changed_context_size_loads_the_model_again(stage: Stage) -> None:
    stage.session.change_settings(Settings(ctx_size=512, params=SamplingParams(temperature=0.0)))
    assert stage.session.model.loading is not None
    await stage.until(lambda: stage.session.model.info)
    stage.session.change_settings(Settings(ctx_size=512, params=SamplingParams(temperature=1.0)))
    assert stage.session.model.loading is None


async def test_another_context_size_waits_for_an_attempt_that_comes_to_nothing(stage: Stage) -> None:
    attempt = stage.session.begin()
    assert attempt is not None
    stage.session.change_settings(Settings(ctx_size=512))
    assert stage.session.model.loading is None
    stage.session.finish_attempt(attempt)
    assert stage.session.model.loading is not None
    await stage.until(lambda: stage.session.model.info)


async def test_another_context_size_waits_for_the_reply(stage: Stage) -> None:
    session = stage.session
    stage.engine.script = stage.begun
    session.submit("hi")
    await stage.until(lambda: session.reply is not None and session.reply.content)
    session.change_settings(set_parameter(session.settings, "num_ctx", "9999999"))
    assert session.reply is not None
    assert session.model.loading is None
    session.stop()
    stage.engine.gate.set()
    await stage.until(lambda: session.model.loading is not None)
    await stage.until(lambda: session.model.info)
    assert (
        stage.view.notes[-1] == "The context holds 2,048 tokens now, not 9,999,999: this model has no more."
    )


async def test_what_there_is_to_say_of_a_load_is_on_the_screen_once(stage: Stage) -> None:
    sentence = "Kernels are built anew."
    for done in (0, 1):
        stage.session.model.take(news.Loading(LoadProgress("kernels", done, 1, sentence)))
    assert stage.view.notes.count(sentence) == 1


async def test_a_load_that_failed_leaves_no_model(stage: Stage) -> None:
    stage.session.load_failed(news.LoadFailed(Path("other.gguf"), "It is cut short."))
    assert stage.session.model.info is None
    assert stage.session.model.loading is None
    assert stage.view.load_failures == ["It is cut short."]


async def test_the_hash_is_that_of_the_model_in_use(stage: Stage) -> None:
    """The first file's hash comes last, when another model is loaded already."""
    held = threading.Event()

    def file_hash(path: Path) -> str:
        if path.name == "first.gguf":
            held.wait(20)
        return f"hash of {path.name}"

    model = LoadedModel(stage.host, stage.view, PanelMetrics(stage.clock), stage.spawn, file_hash)
    model.ready(info_of(stage, "first.gguf"), 0.1, None)
    model.ready(info_of(stage, "second.gguf"), 0.1, None)
    await stage.until(lambda: model.sha256)
    held.set()
    await stage.until(lambda: not stage.tasks)
    assert model.sha256 == "hash of second.gguf"


async def test_a_folder_has_no_hash(stage: Stage) -> None:
    def file_hash(path: Path) -> str:
        raise IsADirectoryError(path)

    spawned: list[Coroutine[Any, Any, Any]] = []
    model = LoadedModel(stage.host, stage.view, PanelMetrics(stage.clock), spawned.append, file_hash)
    model.ready(info_of(stage, "folder"), 0.1, None)
    for work in spawned:
        await work
    assert len(spawned) == 1
    assert model.sha256 == ""


async def test_what_a_reply_cost_is_remembered_of_its_model(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    timings = {"predicted_n": 100, "predicted_per_second": 40.0, "prompt_n": 3, "prompt_per_second": 9.0}
    stage.session.model.answered(None)
    assert measured_speeds().of(path) is None
    stage.session.model.info = replace(stage.engine.info, path=path, backend="jit avx2")
    stage.session.model.answered(timings)
    await stage.until(lambda: measured_speeds().of(path))
    assert measured_speeds().of(path) == Speed("jit", 40.0, None)
