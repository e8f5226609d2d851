"""`llama-chat batch`: what a result says of how it was made, and answers made in several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch.here import computation_of
from chat_app.batch.identity import Computation
from llama_core.choices import DEFAULT_KV
from tests.support.batch_lines import COMPLETION, by_id, line, read, text_of, write

RunCli = Callable[..., Any]


def test_a_sampled_reply_can_be_made_again_from_what_its_result_says(batch: RunCli, tmp_path: Path) -> None:
    lines = [line(f"r{i}", COMPLETION, temperature=1.5, max_tokens=20) for i in range(3)]
    source, out = write(tmp_path / "in.jsonl", [*lines, line("greedy")]), tmp_path / "out.jsonl"
    assert batch(source, out, "--ctx-size", "256").code == 0
    found = by_id(out)
    for record in found.values():
        x = record["x"]
        assert (x["backend"], x["kv"], x["ctx_size"]) == ("numpy float32", "f32", 256)
    assert "seed" not in found["greedy"]["x"]
    assert len({text_of(found[f"r{i}"]) for i in range(3)}) > 1
    for one in lines:
        one["body"]["seed"] = found[one["custom_id"]]["x"]["seed"]
    again = tmp_path / "again.jsonl"
    batch(write(source, lines), again)
    for name, record in by_id(again).items():
        assert text_of(record) == text_of(found[name])
        assert record["x"]["seed"] == found[name]["x"]["seed"]


def changed(out: Path, **x: Any) -> None:
    """Let every answer say something else of how it was made."""
    write(out, [record | {"x": record["x"] | x} for record in read(out)])


@pytest.mark.parametrize(
    ("x", "told"),
    [
        ({"backend": "jit avx2 (Q4_0 as q4)", "kv": "f32"}, "2 by jit with --kv f32"),
        ({"kv": "q8"}, "2 by numpy with --kv q8"),
        ({"backend": "x\x1b[2J" + "y" * 500}, "2 by x"),
        ({"backend": "numpy"}, None),
        ({"backend": None}, None),
        ({"kv": 7}, None),
    ],
)
def test_answers_made_another_way_are_told_once(
    batch: RunCli, tmp_path: Path, x: Mapping[str, Any], told: str | None
) -> None:
    lines = [line(f"r{i}") for i in range(6)]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    batch(write(source, lines[:2]), out)
    changed(out, **x)
    ran = batch(write(source, lines), out)
    assert ran.code == 0
    assert ran.err.count("computed another way") == (told is not None)
    assert "\x1b" not in ran.err
    assert all(len(one) < 600 for one in ran.err.splitlines())
    if told:
        assert told in ran.err
        assert "this run computes them (numpy with --kv f32)" in ran.err


def test_another_context_or_other_instructions_are_not_another_way() -> None:
    ways = {
        Computation("jit avx2 (Q8_0 as q8)", "q8", 512).way,
        Computation("jit neon (Q8_0 as q8, kv q8)", "q8", 64).way,
    }
    assert ways == {("jit", "q8")}


def test_the_cache_of_numpy_is_in_float32_whatever_was_asked_for() -> None:
    """Where "auto" falls back on it."""
    assert computation_of("numpy float32", "q8", 64) == Computation("numpy float32", "f32", 64)
    assert computation_of("jit avx2", "q8", 64).kv == "q8"
    assert computation_of("jit avx2", None, 64).kv == DEFAULT_KV
