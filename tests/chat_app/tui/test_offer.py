"""The welcome offers a better model, one key away, while the first one is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.models.catalogue import CATALOGUE, DEFAULT_MODEL
from chat_app.models.facts import Facts
from chat_app.models.hub_models import HUB_MODELS, hub_model
from chat_app.models.offer import Offer, best_offer
from llama_core.roofline.rates import MachineRates

MakeApp = Callable[..., Any]
OFFER = Offer("qwen3-4b", "qwen3-4b: the best below 3 GB · about 2.5 GB · 8-12 tok/s here")


@pytest.fixture
def first_model(tmp_path: Path) -> Path:
    path = tmp_path / CATALOGUE[DEFAULT_MODEL].file_name
    path.write_bytes(b"GGUF")
    return path


async def test_one_key_takes_it(make_app: MakeApp, drive: Any, first_model: Path) -> None:
    app = make_app(model=str(first_model), find_offer=lambda: OFFER)
    async with app.run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.until(lambda: "F3 better: qwen3-4b" in user.screen_text())
        found: list[str] = []
        app.models.find = found.append
        await user.press("f3")
        assert found == ["qwen3-4b"]


async def test_another_model_has_no_offer(make_app: MakeApp, drive: Any) -> None:
    asked = threading.Event()
    app = make_app(find_offer=asked.set)
    async with app.run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.press("f3")
        assert "better:" not in user.screen_text()
        assert not asked.is_set()


async def test_nothing_is_offered_where_nothing_better_runs_well(
    make_app: MakeApp, drive: Any, first_model: Path
) -> None:
    asked = threading.Event()
    app = make_app(model=str(first_model), find_offer=asked.set)
    async with app.run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.until(asked.is_set)
        await user.press("f3")
        assert "better:" not in user.screen_text()


def test_the_offer_is_the_best_that_runs_well(monkeypatch: pytest.MonkeyPatch, llama_chat_home: Path) -> None:
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 16 << 30)
    found = best_offer()
    assert found is not None
    model = hub_model(found.name)
    assert model in HUB_MODELS
    assert model.terms in found.text
    assert "tok/s here" in found.text
    folder = llama_chat_home / "cache" / "models" / "hf" / model.repository
    folder.mkdir(parents=True)
    (folder / f"x-{model.type}.gguf").write_bytes(b"x")
    again = best_offer()
    assert again is not None
    assert "on this machine" in again.text
    monkeypatch.setattr("chat_app.models.outlook.machine_rates", lambda: MachineRates(1e9, 1e9, 1e9))
    assert best_offer() is None


async def test_what_would_not_run_is_fetched_only_if_one_insists(
    make_app: MakeApp, drive: Any, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_app.models.download.hub import Look

    pulled: list[str] = []

    def pull(name: str, on_progress: Any, cancelled: Any) -> Path:
        pulled.append(name)
        return model_file

    look = Look("hf:o/r", 10, Facts(refusal="its family is 'mamba'"))
    monkeypatch.setattr("chat_app.models.download.pull.look", lambda name, cancelled: look)
    monkeypatch.setattr("chat_app.models.download.pull.pull", pull)
    async with make_app(model="hf:o/r").run_test(size=(100, 40)) as pilot:
        user = drive(pilot)
        await user.until(lambda: "It does not run here: its family is 'mamba'." in user.screen_text())
        assert pulled == []
        await user.command("/model hf:o/r")
        await user.until(lambda: pulled == ["hf:o/r"])
        await user.ready()
