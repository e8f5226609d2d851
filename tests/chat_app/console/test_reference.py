"""The stored results of independent implementations, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model


@pytest.fixture
def greedy_items(shared_reference: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((shared_reference / "greedy.json").read_text())["items"]
    return items


def options(model: Path) -> list[str]:
    return ["-m", str(model), "--backend", "numpy", "--threads", "1", "--output", "json"]


def test_a_greedy_reply_and_its_logits(
    main: Callable[..., Any], default_model: Path, greedy_items: list[dict[str, Any]]
) -> None:
    item = next(one for one in greedy_items if len(one["messages"]) == 1)
    ran = main(
        *("-p", item["messages"][0]["content"], "-o", "temperature", "0", "-o", "num_predict", "16"),
        *("-o", "ignore_eos", "true", "--logits", "20", *options(default_model)),
    )
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["prompt_ids"] == item["prompt_ids"]
    assert result["ids"] == item["greedy_ids"][:16]
    expected = dict(zip(item["top20_ids"], item["top20_logits"], strict=True))
    found = {row["id"]: row["logit"] for row in result["logits"]}
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_raw_prompt_gives_the_same_ids(
    main: Callable[..., Any], default_model: Path, greedy_items: list[dict[str, Any]]
) -> None:
    item = greedy_items[0]
    ran = main(
        *("--raw", "-p", item["rendered"], "-o", "temperature", "0", "-o", "num_predict", "1"),
        *options(default_model),
    )
    assert json.loads(ran.out)["prompt_ids"] == item["prompt_ids"]


def test_tokens(main: Callable[..., Any], default_model: Path, shared_reference: Path) -> None:
    items = json.loads((shared_reference / "tokens.json").read_text())
    for item in items[:: len(items) // 12]:
        ran = main("tokenize", "-", "-m", str(default_model), stdin=item["text"])
        assert [int(one) for one in ran.out.split()] == item["ids"], item["text"]


def test_a_failure_is_told_apart_from_an_answer(main: Callable[..., Any], default_model: Path) -> None:
    ran = main("-p", "hi", "--ctx-size", "8", "-m", str(default_model), "--backend", "numpy")
    assert (ran.code, ran.out) == (1, "")
    assert "the context holds 8" in ran.err


@pytest.mark.slow
def test_perplexity(
    main: Callable[..., Any], default_model: Path, shared_reference: Path, tmp_path: Path
) -> None:
    from llama_core.loaders import open_checkpoint

    reference = json.loads((shared_reference / "perplexity.json").read_text())
    text = open_checkpoint(default_model).tokenizer.decode(reference["ids"])
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode())
    result = json.loads(main("perplexity", str(file), *options(default_model)).out)
    assert result["tokens"] == len(reference["ids"])
    assert result["mean_nll"] == pytest.approx(reference["oracle_mean_nll"], abs=1e-4)
