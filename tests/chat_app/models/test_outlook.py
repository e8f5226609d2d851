"""Will it run here? Both backends' own answers, the numbers, and what replaces an estimate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.models import machine_rates, outlook
from chat_app.models.facts import Facts, facts_of_file
from chat_app.models.hub_models import HUB_MODELS
from chat_app.models.outlook import Outlooks, best_to_fetch
from chat_app.models.speeds import MIN_PROMPT, MIN_REPLY, remember_speed
from chat_app.text import formatting
from llama_core.events import Timings
from llama_core.roofline.rates import MachineRates, measure_rates
from tests.support.model_files import TinyModel, write_gguf

GIB = 1 << 30


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 16 * GIB)


def rates(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """A machine so many times as fast as one with 30 GB/s and 400 billion products a second."""
    found = MachineRates(30e9 * times, 400e9 * times, 60e9 * times)
    monkeypatch.setattr(outlook, "machine_rates", lambda: found)


def test_a_model_that_both_backends_run(tiny_model: Path) -> None:
    told = Outlooks().of(tiny_model, facts_of_file(tiny_model))
    assert (told.backend, told.why, told.verdict) == ("jit", "", "compiled")
    assert told.decode_per_s is not None
    low, high = told.decode_per_s
    assert high / low == pytest.approx(1.25 / 0.75)
    assert "tok/s" in told.sentence
    assert f"It needs {formatting.memory(told.memory_bytes)} of memory; " in told.sentence


def test_the_model_that_guesses_ahead_is_told_with_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of_file(tiny_model)
    alone = Outlooks().of(tiny_model, facts)
    assert (alone.draft, alone.draft_bytes) == ("", 0)
    small = shutil.copy(tiny_model, tmp_path / "small.gguf")
    monkeypatch.setattr(outlook, "find_draft", lambda wanted, path: small)
    told = Outlooks().of(tiny_model, facts)
    assert (told.draft, told.draft_bytes) == ("small", alone.memory_bytes)
    assert told.memory_bytes == alone.memory_bytes, "it goes where there is no room for both"
    assert (
        f"small, which guesses ahead for it, takes {formatting.memory(told.draft_bytes)} more."
        in told.sentence
    )
    monkeypatch.setattr("llama_core.backends.jit.jit_available", lambda: "the package numba is not installed")
    assert Outlooks().of(tiny_model, facts).draft == "", "NumPy has none"


def test_a_shape_that_numpy_alone_runs(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", TinyModel(head_dim=8))
    told = Outlooks().of(path, facts_of_file(path))
    assert (told.backend, told.verdict) == ("numpy", "NumPy only")
    assert told.why == "head_dim is 8; the compiled backend needs a multiple of 16"
    assert told.why in told.sentence
    assert not told.runs_well


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"general.architecture": "mamba"}, "general.architecture is 'mamba'"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "pre-tokenizer 'unheard-of' is not known"),
        ({"tokenizer.ggml.model": "rwkv"}, "tokenizer kind 'rwkv'"),
    ],
)
def test_a_model_that_none_runs_says_why(extra: dict[str, object], why: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "other.gguf", TinyModel(), extra=extra)
    facts = facts_of_file(path)
    told = Outlooks().of(path, facts)
    assert (told.backend, told.verdict, facts.problem) == ("", "does not run", "")
    assert why in told.why
    assert why in told.sentence


def test_without_a_compiler_numpy_runs_it(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.backends.jit.jit_available", lambda: "the package numba is not installed")
    told = Outlooks().of(tiny_model, facts_of_file(tiny_model))
    assert (told.backend, told.why) == ("numpy", "the package numba is not installed")


def test_a_header_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    """Of a file elsewhere only the beginning is fetched; the rest is a hole."""
    head = tmp_path / "head.gguf"
    whole = tiny_model.read_bytes()
    start = facts_of_file(tiny_model)
    n = whole.rindex(b"blk.1.") + 200  # behind the last entry of the table of tensors
    head.write_bytes(whole[:n])
    with head.open("r+b") as file:
        file.truncate(len(whole))
    assert facts_of_file(head) == start
    assert start.runs


def test_what_replies_cost_replaces_the_estimate(tiny_model: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_model, tmp_path / "mine.gguf"))
    facts = facts_of_file(path)
    before = Outlooks().of(path, facts)

    def reply(decode: float, prompt: float, n: int = MIN_REPLY, prompt_n: int = MIN_PROMPT) -> None:
        timings = Timings(
            prompt_n=prompt_n, prompt_s=prompt_n / prompt, predicted_n=n, predicted_s=(n - 1) / decode
        )
        remember_speed(path, "jit avx2", timings.to_json())

    reply(10.0, 100.0, n=MIN_REPLY - 1, prompt_n=MIN_PROMPT - 1)
    assert Outlooks().of(path, facts) == before, "too short to tell"
    reply(10.0, 100.0, prompt_n=3)
    told = Outlooks().of(path, facts)
    assert told.speed == "10 tok/s"
    assert told.first_token == before.first_token
    reply(20.0, 100.0)
    told = Outlooks().of(path, facts)
    assert (told.speed, told.first_token) == ("15 tok/s", "5.0 s")
    reply(100.0, 100.0)
    told = Outlooks().of(path, facts)
    assert (told.speed, told.first_token) == ("100 tok/s", "5.0 s"), "the machine was busy before"
    remember_speed(path, "numpy", {"predicted_n": 100, "predicted_per_second": 1.0})
    assert Outlooks().of(path, facts) == before, "the other backend's speed is not this one's"
    path.write_bytes(path.read_bytes() + b"\0" * 32)
    assert Outlooks().of(path, facts) == before, "another file has that name"


def test_too_little_memory(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 1000)
    told = Outlooks().of(tiny_model, facts_of_file(tiny_model))
    assert (told.fits, told.verdict, told.runs_well) == (False, "too large", False)


def test_the_best_model_depends_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 8 * GIB)  # no room for experts
    found = {}
    for times in (0.02, 0.3, 1, 4):
        rates(monkeypatch, times)
        best = best_to_fetch(Outlooks(), HUB_MODELS)
        found[times] = best and best[0].gigabytes
        assert best is None or best[1].runs_well
    assert found[0.02] is None
    assert found[0.3] is not None
    assert found[1] is not None
    assert found[4] is not None
    assert found[0.3] < found[1] < found[4]
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: GIB)
    small = best_to_fetch(Outlooks(), HUB_MODELS)
    assert small is not None
    assert small[0].gigabytes < 1


def test_nothing_is_known_of_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 50)
    facts = facts_of_file(path)
    assert facts.problem
    assert not facts.runs
    assert Outlooks().of(path, facts) == replace(Outlooks().of(path, facts), backend="")
    assert Outlooks().of(tmp_path, Facts()).verdict == ""


class TestRates:
    """The machine is measured once a day, and sooner where it was busy."""

    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        calls: list[int] = []

        def measure(threads: int) -> MachineRates:
            calls.append(threads)
            return MachineRates(1.0, 2.0, float(len(calls)))

        monkeypatch.setattr("llama_core.roofline.rates.measure_rates", measure)
        return calls

    def test_they_are_remembered(self, measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        first = machine_rates.machine_rates()
        assert machine_rates.machine_rates() == first
        assert len(measured) == 1
        monkeypatch.setattr(machine_rates, "KEPT_S", 0)
        assert machine_rates.machine_rates() != first

    def test_those_of_a_busy_machine_are_measured_again_soon(
        self, measured: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llama_core.cores.usable_cores", lambda: 4)
        now, loads = [0.0], [1.5]
        monkeypatch.setattr("chat_app.models.machine_rates.time.time", lambda: 1e9 + now[0])
        monkeypatch.setattr("psutil.getloadavg", lambda: (loads[0], 9.0, 9.0))
        for at, load, n in (
            (0, 1.5, 1),  # busy
            (machine_rates.BUSY_KEPT_S - 1, 0.5, 1),
            (machine_rates.BUSY_KEPT_S, 0.5, 2),  # quiet
            (machine_rates.KEPT_S, 0.5, 2),
            (machine_rates.KEPT_S + machine_rates.BUSY_KEPT_S, 0.5, 3),
        ):
            now[0], loads[0] = at, load
            machine_rates.machine_rates()
            assert len(measured) == n, at

    def test_a_reply_much_faster_than_before_has_the_machine_measured_again(
        self, measured: list[int], tiny_model: Path
    ) -> None:
        def reply(decode: float) -> None:
            told = {"predicted_n": MIN_REPLY, "predicted_per_second": decode}
            remember_speed(tiny_model, "jit", told)
            machine_rates.machine_rates()

        reply(10.0)
        reply(19.0)
        assert len(measured) == 1
        reply(60.0)
        assert len(measured) == 2

    @pytest.mark.parametrize(
        "change",
        [
            {"machine": ["other"]},
            {"bytes_per_s": "x"},
            {"integer_per_s": None},
            {"at": "now"},
            {"at": 1 << 40},
        ],
    )
    def test_those_of_another_machine_or_damaged_ones_are_not_used(
        self, change: dict[str, object], measured: list[int], llama_chat_home: Path
    ) -> None:
        machine_rates.machine_rates()
        path = llama_chat_home / "cache" / "machine-rates.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        machine_rates.machine_rates()
        assert len(measured) == 2
        path.write_text("[")
        machine_rates.machine_rates()
        assert len(measured) == 3


def test_the_measurement_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.roofline.rates.MOST_S", 0.0)  # one round
    found = measure_rates(1)
    assert min(found.bytes_per_s, found.integer_per_s, found.float32_per_s) > 1e6
