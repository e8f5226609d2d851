from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import chat_ids, store_of


@pytest.fixture
def model(tiny_model: Path) -> list[str]:
    return ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1"]


@pytest.fixture
def chat_id(main: Callable[..., Any], model: list[str], llama_chat_home: Path) -> str:
    """A chat of two sampled replies."""
    options = [*model, "-o", "num_predict", "10", "-o", "ignore_eos", "true", "-o", "temperature", "1"]
    assert main("-p", "one", *options).code == 0
    assert main("-c", "-p", "two", *options).code == 0
    (chat_id,) = chat_ids(llama_chat_home)
    return chat_id


def test_a_chat_comes_out_the_same(main: Callable[..., Any], model: list[str], chat_id: str) -> None:
    ran = main("replay", chat_id, *model)
    assert ran.code == 0, ran.err
    assert ran.out.count("same, 10 tokens") == 2
    assert "2 of 2 replies came out the same" in ran.err


def test_the_first_divergence_is_told(
    main: Callable[..., Any], model: list[str], chat_id: str, llama_chat_home: Path
) -> None:
    chat = store_of(llama_chat_home).open(chat_id)
    for message in list(chat.conversation):
        if message.role == "assistant":
            *ids, last = message.x["ids"]
            chat.append(replace(message, x={**message.x, "ids": [*ids, (last + 1) % 260]}))
    chat.close()
    ran = main("replay", chat_id[-8:], "--output", "json", *model)
    assert ran.code == 1, ran.err
    first = json.loads(ran.out)["replies"][0]
    assert (first["outcome"], first["matched"], first["total"]) == ("different", 9, 10)
    assert first["divergence"]["position"] == 9
    assert first["divergence"]["stored_id"] != first["divergence"]["replayed_id"]
    assert "from token 9 of 10" in main("replay", chat_id, *model).out


def test_an_unknown_chat_is_a_sentence(main: Callable[..., Any], chat_id: str) -> None:
    ran = main("replay", "nothing-like-it")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing-like-it" in ran.err
