"""A chat that is opened again brings back what was computed of it, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.replay import replay_chat
from chat_app.config.settings import Settings
from chat_app.engines.base import Capabilities, Restored
from chat_app.engines.local import LocalEngine, kv_keeper
from llama_core.backends.jit import jit_available
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.sampling.params import SamplingParams
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage

KEEPING = Capabilities(restores=True)


def asked(engine: Any) -> list[Any]:
    return [value for name, value in engine.calls if name == "restore"]


async def test_opening_a_chat_asks_the_engine_and_tells(tmp_path: Path) -> None:
    engine = FakeEngine(capabilities=KEEPING)
    stage = Stage(tmp_path, engine, Settings())
    await stage.load()
    assert asked(engine) == [], "an empty chat has nothing"
    await stage.say("hello")
    first = stage.session.chat.id
    await stage.session.new_chat()
    engine.restored = Restored(8000, 12.34)
    await stage.session.open_chat(first)
    await stage.until(stage.idle)
    assert asked(engine) == [first]
    assert stage.view.notes[-1:] == ["Restored 8,000 tokens, saved 12.3 s."]
    # A model that is loaded under an open chat brings back its own.
    engine.restored = None
    await stage.load()
    await stage.until(lambda: len(asked(engine)) == 2 and stage.idle())
    assert sum(note.startswith("Restored") for note in stage.view.notes) == 1
    stage.host.close()


async def test_an_engine_that_fails_to_restore_answers_all_the_same(tmp_path: Path) -> None:
    engine = FakeEngine(capabilities=KEEPING)
    engine.restore = lambda request: 1 // 0  # type: ignore[assignment]
    stage = Stage(tmp_path, engine, Settings())
    await stage.load()
    await stage.say("hello")
    await stage.load()
    await stage.until(stage.idle)
    assert (await stage.say("again")).content == "You said: again"
    stage.host.close()


@pytest.mark.parametrize(("save", "kind"), [(False, "chat"), (True, "oneshot")])
async def test_what_is_not_kept_has_no_id(tmp_path: Path, save: bool, kind: str) -> None:
    engine = FakeEngine(capabilities=KEEPING)
    stage = Stage(tmp_path, engine, Settings(save=save))
    stage.session._files._kind = kind
    await stage.load()
    await stage.say("hello")
    await stage.load()
    await stage.until(stage.idle)
    assert asked(engine) == []
    stage.host.close()


@pytest.fixture
def settings(trusted_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LLAMA_CHAT_HOME", str(trusted_folder))
    monkeypatch.setattr("chat_app.kv_files.folder.FREE_BYTES", 0)
    return Settings(params=SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True))


def local(path: Path, settings: Settings) -> LocalEngine:
    text = load_engine(path, backend="numpy", threads=1)
    return LocalEngine(text, path, kv_keeper(text, path, settings))


async def test_a_real_chat_goes_on_after_the_program_ended(
    tmp_path: Path, tiny_model: Path, settings: Settings, trusted_folder: Path
) -> None:
    first = Stage(tmp_path, local(tiny_model, settings), settings)
    await first.load()
    await first.say("a question of some length, so that it is worth keeping")
    chat_id = first.session.chat.id
    first.host.close(10.0)
    kept = trusted_folder / "cache" / "kv"
    assert [path.name.partition(".")[0] for path in kept.glob("*.kv")] == [chat_id]

    second = Stage(tmp_path, local(tiny_model, settings), settings)
    await second.session.open_chat(chat_id)
    await second.load()
    await second.until(second.idle)
    assert second.view.notes[-1].startswith("Restored ")
    held = len(second.engine._engine.engine.cached_ids)
    assert held > 50
    reply = await second.say("more")
    assert reply.x["timings"]["cache_n"] == held
    # Who empties the cache has the whole chat computed.
    second.session.reset_cache()
    reply = await second.say("and more")
    assert reply.x["timings"]["cache_n"] == 0
    second.host.close(10.0)


@pytest.mark.parametrize("backend", ["numpy", "jit"])
async def test_replay_finds_the_same_tokens(
    tmp_path: Path, tiny_model: Path, settings: Settings, kernel_cache: Path, backend: Any
) -> None:
    """A chat held in three runs of the program, each of which takes on what the one before kept."""
    if backend == "jit" and (reason := jit_available()):
        pytest.skip(reason)

    def begun() -> TextEngine:
        return load_engine(tiny_model, backend=backend, threads=1, kernel_cache=kernel_cache)

    chat_id = ""
    for text in ("a question of some length, to be kept", "another one", "and the last one"):
        engine = begun()
        stage = Stage(
            tmp_path, LocalEngine(engine, tiny_model, kv_keeper(engine, tiny_model, settings)), settings
        )
        await stage.load()
        if chat_id:
            await stage.session.open_chat(chat_id)
        reply = await stage.say(text)
        assert reply.status == "complete", stage.view.notes
        assert (reply.x["timings"]["cache_n"] > 0) == bool(chat_id)
        chat_id = stage.session.chat.id
        stage.host.close(10.0)
    plain = LocalEngine(begun(), tiny_model)
    outcomes = [one.outcome for one in replay_chat(plain, stage.store.read(chat_id))]
    assert outcomes == ["same"] * 3
    plain.close()


@pytest.mark.parametrize("change", [{"save": False}, {"kv_files_mib": 0}])
def test_the_settings_may_want_none(tiny_model: Path, settings: Settings, change: dict[str, Any]) -> None:
    engine = local(tiny_model, replace(settings, **change))
    assert not engine.info.capabilities.restores
    engine.close()
