"""The parts that need no screen: commands, code blocks, numbers for people, file names, the light start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.chat.conversation import Conversation, segments, taken_n, with_user_turn
from chat_app.config.key_names import long_keys, short_key
from chat_app.engines.base import Turn
from chat_app.store.export import ExportError
from chat_app.text import formatting
from chat_app.tui import clipboard
from chat_app.tui.screens.exporting import default_name, target_path
from chat_app.tui.ui_state import read_ui_state, write_ui_state
from llama_core.engine.text import completion_text


@given(st.lists(st.floats(0, 1e9), max_size=8), st.integers(0, 60))
def test_shares_fill_the_width(values: list[float], width: int) -> None:
    cells = formatting.shares(values, width)
    assert all(cell >= 0 for cell in cells)
    assert sum(cells) == (width if sum(values) > 0 else 0)


@given(st.floats(-1, 2), st.integers(0, 40))
def test_a_bar_is_as_wide_as_asked(fraction: float, width: int) -> None:
    assert len("".join(formatting.bar(fraction, width))) == width


def test_numbers_for_people() -> None:
    assert formatting.duration(None) == "–"
    assert [formatting.duration(s) for s in (0.004, 0.25, 2.5, 75)] == [
        "4.0 ms",
        "250 ms",
        "2.50 s",
        "1:15 min",
    ]
    assert (formatting.rate(1234.5), formatting.rate(9.87)) == ("1,234", "9.9")
    assert formatting.reply_line({"timings": {"predicted_n": "x"}}) == ""


def test_segments_follow_what_replies_recorded() -> None:
    chat = Conversation()
    chat.add("user", "q")
    chat.add("assistant", "a", x={"context": [10, 15]})
    chat.add("user", "q")
    chat.add("assistant", "b", x={"context": "damaged"})
    chat.add("user", "q")
    chat.add("assistant", "c", x={"context": [22, 30]})
    expected = [("user", 10), ("assistant", 5), ("user", 7), ("assistant", 8)]
    assert segments(chat.path()) == expected
    assert taken_n(chat.path()) == 30
    chat.add("user", "q")
    assert taken_n(chat.path()) == 30
    chat.add("assistant", "d", x={"context": [12, 20]})
    assert taken_n(chat.path()) == 20, "the oldest turns were left out"
    assert taken_n([]) == 0


def test_keys_as_people_write_them() -> None:
    assert long_keys("shift+enter,ctrl+j,f1,y") == "Shift+Enter, Ctrl+J, F1, y"
    assert short_key("ctrl+n") == "^N"


def test_a_completion_runs_on() -> None:
    turns = [Turn("user", "Once"), Turn("assistant", " upon")]
    assert completion_text([turn.to_message() for turn in turns]) == "Once upon"
    then = with_user_turn(turns, "Then")
    assert completion_text([turn.to_message() for turn in then]) == "Once upon\nThen"
    assert with_user_turn([Turn("user", "a")], "b") == (Turn("user", "a\n\nb"),)


def test_export_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_name("../../What? Ünï \x1b[2J", "id") == "what-n-2j"
    assert default_name("???", "20261123-1") == "20261123-1"
    assert target_path("", "A chat", "id") == tmp_path / "a-chat.md"
    assert target_path(".svg", "A chat", "id") == tmp_path / "a-chat.svg"
    assert target_path(str(tmp_path), "A chat", "id") == tmp_path / "a-chat.md"
    with pytest.raises(ExportError, match="ends in"):
        target_path("chat.pdf", "A chat", "id")


def test_nothing_copied_is_never_called_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    assert "nothing" in clipboard.copy("", sent.append)
    monkeypatch.setattr(clipboard, "native_command", lambda: ["false"])
    assert clipboard.copy("text", sent.append).startswith("Copied 4 characters, if")
    monkeypatch.setattr(clipboard, "native_command", lambda: ["true"])
    assert clipboard.copy("text", sent.append) == "Copied 4 characters."
    assert sent == ["text", "text"]


def test_the_screen_remembers_and_forgives(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ui.json"
    write_ui_state(path, {"theme": "llama-light"})
    assert read_ui_state(path) == {"theme": "llama-light"}
    path.write_bytes(b"\xff{")
    assert read_ui_state(path) == {}


def test_the_first_paint_waits_for_nothing_heavy() -> None:
    code = (
        "import sys, chat_app.tui.app\n"
        "heavy = {'numpy', 'numba', 'jinja2', 'markdown_it', 'regex', 'psutil'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("What is it?\n", "What is it?"),
        ("\n\n    indented\n  code  \n \n", "    indented\n  code"),
        ('"""\n  as it is \n\n"""', "  as it is "),
        (" \n ", ""),
    ],
)
def test_what_stands_around_a_prompt_is_not_sent(typed: str, sent: str) -> None:
    from chat_app.tui.widgets.prompt import to_send

    assert to_send(typed) == sent
