"""The sentences that experiments draw from their rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chat_app.lab import screen_cost as lab_screen
from llama_core.profiling.lab.experiment import (
    LabContext,
    Row,
)
from llama_core.profiling.lab.experiments import batching, limits, scaling, tokenizer
from llama_core.roofline.roofline import TokenCost
from tests.support.lab_rows import row


def test_the_batch_model_finds_the_costs_it_was_made_of(context: LabContext) -> None:
    rows = [
        row(f"numpy, batch {n} behind 32 tokens", 1.0, 0.010 + 0.002 * n, work=n) for n in (1, 2, 4, 8, 16)
    ]
    (sentence,) = batching.conclude(context, rows)
    assert "10.0 ms and 2.00 ms for each sequence" in sentence
    assert "381 tok/s at batch 16" in sentence


def test_the_scaling_fits_find_the_costs_they_were_made_of(
    context: LabContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = TokenCost(weight_bytes=8000, kv_bytes_per_position=1, multiply_adds=1200, last_multiply_adds=200)
    monkeypatch.setattr(limits, "token_cost", lambda checkpoint, weights: cost)
    told = {"bandwidth": 1e6, "peak numpy": 2e6, "peak jit": 4e6}
    for key, value in told.items():
        monkeypatch.setitem(context.cache, key, value)
    lengths = (64, 256, 1024, 2048)
    rows = []
    for name in ("numpy", "jit"):
        for n in lengths:
            rows.append(row(f"{name}, decode at {n:,} instead of 16 tokens", 1.0, 0.016 + 2e-6 * n))
            rows.append(row(f"{name}, prefill of {n:,}: chunks", 1.0, n * (1e-3 + 1e-7 * n), work=n))
        for n in scaling.BATCHES:
            rows.append(row(f"{name}, batch {n} behind 64 tokens", 1.0, 0.012 + 0.004 * n, work=n))
    _, decode, batch, prefill, _, jit_batch, jit_prefill = scaling.conclude(context, rows)
    assert "16.00 ms + 2.00 us a position (within 0%)" in decode
    assert "memory alone allows 8.00 ms + 1.00 us" in decode
    assert "0.50 at 64 positions and 0.50 at 2,048 positions" in decode
    assert "12.0 ms and 4.00 ms for each sequence" in batch
    # Batch 1 waits for memory, (8000 + 64) / 1e6 s of 16 ms; batch 64 for 64 * 1200 products, of 268 ms.
    assert "0.50 at batch 1 and 0.14 at batch 64" in batch
    assert "0.50 at batch 1 and 0.07 at batch 64" in jit_batch
    assert "1000 us a token + 100.0 ns for each token" in prefill
    # 1000 products a token: 2,000 tok/s at most, of 994 at 64 tokens and 830 at 2,048.
    assert "allow 2,000 tok/s, of which it reaches 0.50 at 64 and 0.42 at 2,048 tokens" in prefill
    assert "allow 4,000 tok/s, of which it reaches 0.25 at 64 and 0.21 at 2,048 tokens" in jit_prefill


def test_the_screens_rows_say_how_they_were_measured(context: LabContext) -> None:
    [sentence] = lab_screen.conclude(
        context, [row("default model, jit: in the app instead of headless", 2, 2)]
    )
    for part in ("Textual's test driver", "nothing to a terminal", "the same app runs idle", "own clock"):
        assert part in sentence
    assert lab_screen.conclude(context, [Row("default model", "not measured", "", note="absent")]) == []


def test_the_growth_of_list_index_is_told(context: LabContext) -> None:
    rows = [
        row("94 characters: dict instead of list.index", 0.6, 1e-3, 94),
        row("11 characters: dict instead of list.index", 0.01, 1e-3, 11),
        row("1,000 characters, the first 10 merges: dict instead of list.index", 3.0, 1e-3, 10),
    ]
    rows = [replace(one, unit="merge" if "merges" in one.name else "char") for one in rows]
    growth, whole = tokenizer.conclude(context, rows)
    assert "8.5 times the text took 60 times as long" in growth
    # 0.3 ms a pair; 862 merges leave 138 tokens: 862 * (1000 + 138) / 2 pairs are looked up.
    assert "10 merges took 3.0 s; all 862" in whole
    assert "about 2 minutes" in whole
