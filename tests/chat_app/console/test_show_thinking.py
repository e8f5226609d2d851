"""One-shot runs print the answer alone, and the thought where it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chat_app.console.reply_writer import ReplyWriter, event_json
from llama_core.events import Finished, TextDelta, Timings

THOUGHT = [TextDelta("hm, ", thought=True), TextDelta("so", thought=True)]
ANSWER = [TextDelta("yes"), TextDelta(" or no")]
END = Finished("stop", Timings(), 7, (1, 2))


def written(capsys: pytest.CaptureFixture[str], events: list[Any], **options: Any) -> tuple[str, str, Any]:
    writer = ReplyWriter(**options)
    reply, info = SimpleNamespace(prompt=None), SimpleNamespace(path=None, name="toy", backend="toy")
    writer.controller = SimpleNamespace(reply=reply, model=SimpleNamespace(info=info))  # type: ignore[assignment]
    for event in [*events, END]:
        writer.write(event)
    said = capsys.readouterr()
    return said.out, said.err, writer.result


def test_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    out, err, _ = written(capsys, THOUGHT + ANSWER)
    assert (out, err) == ("yes or no\n", "")


def test_the_thought_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, THOUGHT + ANSWER, show_thinking=True)[0] == "hm, so\n\nyes or no\n"
    assert written(capsys, ANSWER, show_thinking=True)[0] == "yes or no\n"


def test_a_thought_without_an_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    out, err, _ = written(capsys, THOUGHT)
    assert out == "\n"
    assert "only a thought" in err
    assert written(capsys, THOUGHT, show_thinking=True)[:2] == ("hm, so\n", "")


def test_json_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    result = written(capsys, THOUGHT + ANSWER, output="json")[2]
    assert (result["text"], result["reasoning_content"]) == ("yes or no", "hm, so")
    assert "reasoning_content" not in written(capsys, ANSWER, output="json")[2]
    assert event_json(THOUGHT[0]) == {"type": "thought", "text": "hm, "}
    assert event_json(ANSWER[0]) == {"type": "text", "text": "yes"}
