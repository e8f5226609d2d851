"""`--choices`: probabilities of answers against a float64 computation, as text and as JSON; replies held to a
schema in one-shot runs and batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from tests.support.batch_lines import by_id, line, write

RunCli = Callable[..., Any]
ANSWERS = ("good", "bad", "the the", "t")


@pytest.fixture(scope="module")
def engine(tiny_model: Path, kernel_cache: Path) -> Any:
    made = load_engine(tiny_model, backend="numpy", kernel_cache=kernel_cache)
    yield made
    made.close()


def exactly(engine: TextEngine, prompt: list[int], answers: tuple[str, ...], with_end: bool) -> np.ndarray:
    """Log-probabilities token by token, each from a fresh cache, in float64."""
    totals = []
    for answer in answers:
        ids, total = list(prompt), 0.0
        steps: list[list[int]] = [[token] for token in engine.tokenizer.encode(answer)]
        for ends in [*steps, *([sorted(engine.tokenizer.stop_ids)] if with_end else [])]:
            cache = engine.model.new_cache(len(ids))
            logits = engine.model.forward(np.array(ids, np.int32), cache).astype(np.float64)
            weights = np.exp(logits - logits.max())
            total += np.log(weights[ends].sum() / weights.sum())
            ids += ends[:1]
        totals.append(total)
    return np.array(totals)


def test_probabilities_are_those_of_the_tokens_one_by_one(
    main: RunCli, engine: TextEngine, tiny_model: Path
) -> None:
    run = ["-p", "How is it?", "-m", str(tiny_model), "--backend", "numpy", "--choices", ",".join(ANSWERS)]
    found = main(*run, "--output", "json")
    assert found.code == 0, found.err
    rows = {row["text"]: row for row in json.loads(found.out)["choices"]}
    prompt = engine.encode_chat([{"role": "user", "content": "How is it?"}])
    # "t" is no beginning of "the the" in tokens, so that no answer begins another.
    expected = exactly(engine, prompt, ANSWERS, with_end=False)
    shares = np.exp(expected - expected.max())
    shares /= shares.sum()
    for answer, total, share in zip(ANSWERS, expected, shares, strict=True):
        assert rows[answer]["logprob"] == pytest.approx(total, abs=1e-4)
        assert rows[answer]["probability"] == pytest.approx(share, rel=1e-3)
    assert sum(row["probability"] for row in rows.values()) == pytest.approx(1.0)
    text = main(*run)
    lines = [one.split("\t") for one in text.out.splitlines()]
    assert [name for _, name in lines] == sorted(rows, key=lambda name: -rows[name]["probability"])
    assert float(lines[0][0]) == pytest.approx(max(row["probability"] for row in rows.values()), abs=1e-6)


def test_where_one_answer_begins_another_the_end_counts(engine: TextEngine) -> None:
    answers = ("go", "good", "x")
    prompt = engine.encode_chat([{"role": "user", "content": "How is it?"}])
    found = engine.score(prompt, answers)
    expected = exactly(engine, prompt, answers, with_end=True)
    assert [one.logprob for one in found] == pytest.approx(expected.tolist(), abs=1e-4)


def test_with_little_memory_answers_go_in_several_passes(engine: TextEngine) -> None:
    from llama_core.engine.scoring import score_answers

    prompt = engine.encode_chat([{"role": "user", "content": "How is it?"}])
    cache = engine.model.new_cache(512)
    row = engine.model.forward(np.array(prompt, np.int32), cache).copy()
    answers = engine.answer_ids(ANSWERS)
    one = score_answers(engine.model, cache, row, answers, room_bytes=1)
    assert [a.logprob for a in one] == pytest.approx(
        [a.logprob for a in engine.score(prompt, ANSWERS)], abs=1e-5
    )
    assert cache.length == len(prompt)


@pytest.mark.parametrize("text", ["yes", "yes,yes", "a,,b", "[1, 2]", '["a"]', "[", ""])
def test_what_are_no_answers_is_told(main: RunCli, tiny_model: Path, text: str) -> None:
    ran = main("-p", "x", "-m", str(tiny_model), "--choices", text)
    assert ran.code == 2
    assert "--choices" in ran.err


def test_a_one_shot_reply_is_held(main: RunCli, tiny_model: Path) -> None:
    pytest.importorskip("llguidance")
    run = [
        "-p",
        "How is it?",
        "-m",
        str(tiny_model),
        "--backend",
        "numpy",
        "-o",
        "temperature",
        "1",
        "--no-save",
    ]
    found = main(*run, "--schema", '{"enum": ["good", "bad"]}')
    assert json.loads(found.out) in ("good", "bad")
    assert main(*run, "--regex", "[0-9]{4}").out.strip().isdigit()
    wrong = main(*run, "--regex", "[0-9")
    assert wrong.code == 1
    assert "cannot be held to" in wrong.err


def test_batches_hold_replies_score_answers_and_refuse_by_line(
    main: RunCli, tiny_model: Path, engine: TextEngine, tmp_path: Path
) -> None:
    pytest.importorskip("llguidance")
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": ["good", "bad"]}}}
    lines = [
        line("json", response_format=schema, max_tokens=20, ignore_eos=False),
        line("answers", guided_choice=list(ANSWERS)),
        line("odd", guided_regex="["),
        line("tools", tools=[{"type": "function", "function": {"name": "f"}}]),
    ]
    write(tmp_path / "in.jsonl", lines)
    ran = main(
        "batch",
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        "-m",
        str(tiny_model),
        "--backend",
        "numpy",
    )
    assert ran.code == 1
    records = by_id(tmp_path / "out.jsonl")
    choice = records["json"]["response"]["body"]["choices"][0]
    assert json.loads(choice["message"]["content"]) in ("good", "bad")
    assert choice["finish_reason"] == "stop"
    choice = records["answers"]["response"]["body"]["choices"][0]
    expected = engine.score(engine.encode_chat([{"role": "user", "content": "Say answers"}]), ANSWERS)
    found = {one["text"]: one["probability"] for one in choice["answers"]}
    assert [found[text] for text in ANSWERS] == pytest.approx([one.probability for one in expected], rel=1e-3)
    assert choice["message"]["content"] == max(found, key=lambda text: found[text])
    assert records["odd"]["error"]["code"] == "invalid_value"
    assert records["tools"]["error"]["param"] == "body.tools"
