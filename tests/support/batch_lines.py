"""Request lines and result files for the tests of `llama-chat batch`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    given = {"model": "any", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    payload = (
        {"messages": [{"role": "user", "content": f"Say {custom_id}"}]} if url == CHAT else {"prompt": "Once"}
    )
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": payload | given | body}


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text().splitlines()]


def answers(path: Path) -> list[str]:
    """The custom_ids that were answered, in order of the file."""
    return [record["custom_id"] for record in read(path) if record["error"] is None]


def errors(path: Path) -> list[dict[str, Any]]:
    return [record["error"] for record in read(path) if record["error"]]


def by_id(path: Path) -> dict[str, dict[str, Any]]:
    records = read(path)
    found = {record["custom_id"]: record for record in records}
    assert len(found) == len(records)
    return found


def text_of(record: dict[str, Any]) -> str:
    choice = record["response"]["body"]["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]
