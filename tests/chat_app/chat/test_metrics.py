"""The panel's numbers, from scripted events and a clock that is moved by hand."""

from __future__ import annotations

import pytest

from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.panel_snapshot import percentile
from llama_core.backends.base import MemoryReport
from llama_core.events import Finished, LoadProgress, PrefillProgress, TextDelta, Timings, TokenEvent
from tests.support.fake_engine import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics(clock: FakeClock) -> PanelMetrics:
    found = PanelMetrics(clock)
    found.engine_ready("numpy float32", 2, 1000)
    return found


def decode(metrics: PanelMetrics, steps: list[float], start: int = 100) -> None:
    for index, step in enumerate(steps):
        metrics.on_event(TokenEvent(index, 5, -0.1, step, start + index))
        metrics.on_event(TextDelta("x"))


def test_nothing_is_known_before_the_first_event() -> None:
    shot = PanelMetrics().snapshot()
    assert shot.phase == "empty"
    assert shot.rate_mean is None
    assert shot.ttft_s is None
    assert shot.p50_s is None
    assert shot.kv_bytes is None


def test_prefill_progress_then_time_and_rate(metrics: PanelMetrics) -> None:
    metrics.started()
    metrics.on_event(PrefillProgress(50, 0, 400, 0.0))
    metrics.on_event(PrefillProgress(50, 100, 400, 0.2))
    shot = metrics.snapshot()
    assert (shot.phase, shot.prefill_done_n, shot.prefill_total_n) == ("prefill", 100, 400)
    assert shot.prefill_rate == pytest.approx(500)
    assert shot.prefill_eta_s == pytest.approx(0.6)
    assert shot.context_n == 150
    metrics.on_event(PrefillProgress(50, 400, 400, 0.8))
    shot = metrics.snapshot()
    assert shot.prefill_eta_s is None
    assert shot.prefill_s == 0.8
    assert shot.saved_s == pytest.approx(50 / 500)


def test_the_next_prompts_eta_starts_from_the_last_rate(metrics: PanelMetrics, clock: FakeClock) -> None:
    metrics.started()
    metrics.on_event(Finished("stop", Timings(0, 100, 1.0, 1, 0.0, 1.0), 1, (5,)))
    metrics.started()
    metrics.on_event(PrefillProgress(0, 0, 400, 0.0))
    assert metrics.snapshot().prefill_eta_s == pytest.approx(4.0)
    clock.advance(1.5)
    assert metrics.snapshot().prefill_eta_s == pytest.approx(2.5)


def test_rates_exclude_the_first_token(metrics: PanelMetrics) -> None:
    metrics.started()
    metrics.on_event(PrefillProgress(0, 10, 10, 0.05))
    decode(metrics, [0.5, 0.01, 0.01, 0.02])
    shot = metrics.snapshot()
    assert shot.phase == "decode"
    assert shot.ttft_s == pytest.approx(0.55)
    assert shot.rate_mean == pytest.approx(3 / 0.04)
    assert shot.rate_now == pytest.approx(3 / 0.04)
    assert shot.context_n == 103


def test_now_looks_back_one_second(metrics: PanelMetrics) -> None:
    metrics.started()
    decode(metrics, [0.0] + [0.1] * 20 + [0.01] * 100)
    shot = metrics.snapshot()
    assert shot.rate_now == pytest.approx(100, rel=0.02)
    assert shot.rate_mean == pytest.approx(120 / 3.0)
    assert shot.rates[0] == pytest.approx(10)
    assert shot.rates[-1] == pytest.approx(100)


def test_percentiles(metrics: PanelMetrics) -> None:
    metrics.started()
    decode(metrics, [9.0] + [0.001 * n for n in range(1, 102)])
    shot = metrics.snapshot()
    assert shot.p50_s == pytest.approx(0.051)
    assert shot.p95_s == pytest.approx(0.096)
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3.0


def test_guessed_tokens_share_the_time_of_their_pass(metrics: PanelMetrics) -> None:
    metrics.started()
    decode(metrics, [9.0])
    for index, step in enumerate([0.04, 2e-4, 2e-4, 2e-4] * 10, 1):
        right = index % 4 != 0  # the last token of a pass is no guess
        metrics.on_event(TokenEvent(index, 7, -1.0, step, 100 + index, right))
    shot = metrics.snapshot()
    assert shot.p50_s == pytest.approx(0.0406 / 4)
    assert shot.p95_s == pytest.approx(0.0406 / 4)
    assert shot.rate_mean == pytest.approx(4 / 0.0406)


def test_the_finished_record_has_the_last_word(metrics: PanelMetrics) -> None:
    metrics.started()
    metrics.on_event(PrefillProgress(5, 10, 10, 0.1))
    decode(metrics, [0.0, 0.1, 0.1])
    timings = Timings(5, 10, 0.1, 3, 0.25, 0.12, draft_n=8, draft_accepted_n=6)
    metrics.on_event(Finished("stop", timings, 1, (5, 5, 5)))
    shot = metrics.snapshot()
    assert shot.phase == "idle"
    assert shot.rate_now is None
    assert shot.decode_rate == pytest.approx(2 / 0.25)
    assert shot.ttft_s == 0.12
    assert (shot.drafted_n, shot.accepted_n) == (8, 6)
    assert (shot.cached_n, shot.prefill_total_n) == (5, 10)


def test_a_reset_empties_the_occupancy(metrics: PanelMetrics) -> None:
    metrics.memory(MemoryReport(10, 2000, 0, 3, 0, 99))
    metrics.started()
    decode(metrics, [0.0, 0.1], start=499)
    shot = metrics.snapshot()
    assert shot.occupancy == 0.5
    assert shot.kv_used_bytes == 1000
    metrics.cache_reset()
    shot = metrics.snapshot()
    assert (shot.context_n, shot.occupancy, shot.kv_used_bytes) == (0, 0.0, 0)
    assert shot.resident_bytes == 99


def test_loading(metrics: PanelMetrics) -> None:
    metrics.loading(LoadProgress("kernels", 25, 100))
    shot = metrics.snapshot()
    assert (shot.phase, shot.load_stage, shot.load_fraction) == ("loading", "kernels", 0.25)


def test_a_new_reply_forgets_the_last_ones_numbers(metrics: PanelMetrics) -> None:
    metrics.started()
    decode(metrics, [0.0] + [0.1] * 30)
    metrics.started()
    shot = metrics.snapshot()
    assert shot.rates == ()
    assert shot.decode_n == 0
    assert shot.ttft_s is None


def test_another_chat_keeps_the_models_numbers_alone(metrics: PanelMetrics) -> None:
    metrics.memory(MemoryReport(100, 50, 25, 7, 0, 300, draft_bytes=11))
    metrics.started()
    decode(metrics, [0.1] * 5)
    metrics.new_chat()
    shot = metrics.snapshot()
    assert (shot.phase, shot.backend, shot.threads, shot.context_limit) == ("idle", "numpy float32", 2, 1000)
    assert (shot.weights_bytes, shot.kv_bytes, shot.scratch_bytes, shot.resident_bytes) == (100, 50, 7, 300)
    assert shot.draft_bytes == 11
    assert (shot.kv_used_bytes, shot.context_n, shot.decode_n, shot.rates) == (0, 0, 0, ())
    empty = PanelMetrics()
    empty.new_chat()
    assert empty.snapshot().phase == "empty"
