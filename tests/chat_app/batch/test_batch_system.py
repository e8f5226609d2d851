"""A system prompt in a file of requests for a model whose template has no place for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_core.tokenizers.templates.chat_template import SYSTEM_FOLDED
from tests.support import tiny_chat

QUESTION = {"role": "user", "content": "the the"}


@pytest.mark.parametrize("system", [True, False])
def test_it_is_put_before_the_first_question_and_told_once(
    batch: Callable[..., Any], tmp_path: Path, system: bool
) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    model = tiny_chat.write_tiny_chat(tmp_path / "refuses.gguf", refuses + tiny_chat.TEMPLATE)
    messages = [{"role": "system", "content": "Be brief."}] * system + [QUESTION]
    lines = [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": messages, "max_tokens": 2},
        }
        for name in ("a", "b")
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = batch(source, out, model=model)
    assert ran.code == 0, ran.err
    assert ran.err.count(SYSTEM_FOLDED) == system
    assert [json.loads(line)["error"] for line in out.read_text().splitlines()] == [None, None]
