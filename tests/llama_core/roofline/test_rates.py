"""The machine's rates: the best of a few rounds, and no more rounds than are needed."""

from __future__ import annotations

import itertools

import pytest

from llama_core.roofline import rates
from llama_core.roofline.bandwidth import Bandwidth


def measured(monkeypatch: pytest.MonkeyPatch, readings: list[float]) -> tuple[rates.MachineRates, int]:
    """(the rates, rounds) of a machine whose memory is read so fast, round by round."""
    asked = itertools.count()

    def read(threads: int) -> Bandwidth:
        return Bandwidth(readings[min(next(asked), len(readings) - 1)], threads, 1, "")

    monkeypatch.setattr(rates, "read_bandwidth", read)
    monkeypatch.setattr(rates, "integer_peak", lambda threads, repeats: 5.0)
    monkeypatch.setattr(rates, "float32_peak", lambda repeats: 7.0)
    return rates.measure_rates(1), next(asked)


def test_two_rounds_that_agree_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, [99.0, 100.0]) == (rates.MachineRates(100.0, 5.0, 7.0), 2)


def test_a_disturbed_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, [50.0, 100.0, 70.0, 98.0]) == (rates.MachineRates(100.0, 5.0, 7.0), 4)


def test_it_ends_where_nothing_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_S", 0.0)
    assert measured(monkeypatch, [1.0])[1] == 1


def test_without_a_compiler_there_is_no_integer_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(threads: int, repeats: int) -> float:
        raise ImportError

    monkeypatch.setattr(rates, "integer_peak", absent)
    assert rates._integer_peak(1) == 0.0
