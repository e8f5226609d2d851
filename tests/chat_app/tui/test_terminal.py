"""The app as a process in a real pseudo-terminal: signals, a slow terminal, escape sequences in replies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from tests.support.luck import SEED

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, llama_chat_home: Path) -> Iterator[Start]:
    """`start(reply, "--slow", ...)` runs the app on a fake engine that answers with `reply`."""
    from tests.support.terminal import Terminal

    running: list[Terminal] = []

    def begin(
        reply: str, *flags: str, size: tuple[int, int] = (80, 24), launcher: tuple[str, ...] = ()
    ) -> Terminal:
        model, script = tmp_path / "tiny.gguf", tmp_path / "reply.txt"
        model.write_bytes(b"GGUF")
        script.write_text(reply, encoding="utf-8", errors="surrogateescape")
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        argv = [*launcher, sys.executable, "-m", "tests.support.fake_app", str(model), str(script), *flags]
        terminal = Terminal(argv, env, size)
        running.append(terminal)
        terminal.until(lambda out: b"ready" in out)
        return terminal

    yield begin
    for terminal in running:
        terminal.close()


def saved(home: Path) -> list[Any]:
    """The messages of the only chat on disk."""
    from tests.support.chats import store_of

    store = store_of(home)
    (chat,) = store.list()
    return store.read(chat.id).path()


def reply_begun(home: Path) -> bool:
    try:
        return len(saved(home)) == 2
    except ValueError:  # there is no chat yet
        return False


def words_on_disk(home: Path) -> list[str]:
    """The messages of every chat and every draft, as the next start of the app finds them."""
    from chat_app.config.settings import Settings
    from chat_app.tui.app import LlamaChatApp

    app = LlamaChatApp(Settings())
    chats = [one.id for one in app.store.list()]
    said = [message.content for chat in chats for message in app.store.read(chat)]
    return [*said, *(app.drafts.load(name) for name in ("new", *chats))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, None])
@pytest.mark.parametrize("moment", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_prompt_that_was_sent_outlives_the_app(
    start: Start, llama_chat_home: Path, number: signal.Signals | None, moment: int
) -> None:
    """Enter, and at a random moment later the end (None: Ctrl+Q), which may be in the middle of anything."""
    rng = Random(f"{SEED} {number} {moment}")
    terminal = start("word " * 1000, "--slow")
    terminal.send("hello there")
    terminal.until(lambda out: b"hello there" in out)
    if number == signal.SIGKILL:
        terminal.pump(1.5)  # nobody can keep what was typed a moment before; the draft is written each second
    terminal.send("\r")
    terminal.pump(rng.choice([0.0, 0.005, 0.02, 0.05, 0.2]))
    if number is None:
        terminal.send("\x11")
    else:
        terminal.signal(number)
    terminal.wait()
    assert "hello there" in words_on_disk(llama_chat_home)


def say_and_wait(terminal: Any, wanted: bytes) -> None:
    terminal.send("go\r")
    terminal.until(lambda out: wanted in out)


def has_ended(pid: int) -> bool:
    """An orphan is a zombie until the system's first process looks."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def whole_reply(terminal: Any, start: int = 0) -> None:
    """Wait for the line below a finished reply; the panel's numbers come while it is still written."""
    terminal.until(lambda out: re.search(rb"\d tokens \xc2\xb7", out[start:]))


RESTORED = (b"\x1b[?1049l", b"\x1b[?25h")  # the normal screen, the cursor visible


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_restores(start: Start, llama_chat_home: Path, number: int) -> None:
    terminal = start("word ", "--endless", "--slow")
    say_and_wait(terminal, b"word word")
    started = time.monotonic()
    terminal.signal(number)
    assert terminal.wait() == 128 + number
    assert time.monotonic() - started < 20  # two seconds on a quiet machine; this only guards against a hang
    assert all(sequence in terminal.output for sequence in RESTORED)
    assert terminal.attributes() == terminal.initial
    question, reply = saved(llama_chat_home)
    assert question.content == "go"
    assert reply.status == "stopped"
    assert reply.content.startswith("word word")


def test_a_closed_terminal_saves_and_ends(start: Start, llama_chat_home: Path) -> None:
    terminal = start("word ", "--endless", "--slow")
    say_and_wait(terminal, b"word word")
    terminal.hang_up()
    terminal.wait_unread()
    assert [message.content[:9] for message in saved(llama_chat_home)] == ["go", "word word"]


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_a_terminal_that_goes_without_a_signal(start: Start, llama_chat_home: Path) -> None:
    """It is not the process's controlling terminal: all that tells of its end is reading nothing."""
    terminal = start("word ", "--endless", "--slow", launcher=("setsid", "--wait"))
    say_and_wait(terminal, b"word word")
    (app,) = psutil.Process(terminal.pid).children()
    terminal.hang_up()
    assert psutil.wait_procs([app], timeout=20)[0], "the app goes on without a terminal"
    assert [message.content[:9] for message in saved(llama_chat_home)] == ["go", "word word"]


def test_stop_and_go_on(start: Start, llama_chat_home: Path) -> None:
    """SIGTSTP (what ctrl+z sends to a job) and SIGCONT: the screen is drawn again and nothing is lost."""
    terminal = start("word ", "--endless", "--slow")
    say_and_wait(terminal, b"word word")
    terminal.signal(signal.SIGTSTP)
    terminal.until(lambda out: RESTORED[0] in out)
    terminal.until(lambda _: psutil.Process(terminal.pid).status() == psutil.STATUS_STOPPED)
    terminal.pump(0.2)
    quiet = terminal.pump(0.3)
    assert quiet == b"", "a stopped process draws nothing"
    terminal.signal(signal.SIGCONT)
    seen = len(terminal.output)
    terminal.until(lambda out: b"\x1b[?1049h" in out[seen:] and b"llama-chat" in out[seen:])
    terminal.send("\x1b")
    terminal.until(lambda out: b"stopped" in out[seen:])
    terminal.send("\x11")
    assert terminal.wait() == 0


def test_quitting_says_how_to_come_back(start: Start, llama_chat_home: Path) -> None:
    terminal = start("fine")
    terminal.send("go\r")
    whole_reply(terminal)
    terminal.send("\x11")
    assert terminal.wait() == 0
    assert re.search(rb"--resume \d{8}-\d{6}-[0-9a-f]+", terminal.output)
    assert [message.content for message in saved(llama_chat_home)] == ["go", "fine"]


def test_a_terminal_that_reads_nothing_loses_nothing(start: Start, llama_chat_home: Path) -> None:
    reply = "".join(f"word{n} " for n in range(400))
    terminal = start(reply)
    terminal.send("go\r")
    time.sleep(3.0)  # nothing is read: the app's writes block once the terminal's buffer is full
    terminal.until(lambda out: b"word399" in out)
    whole_reply(terminal)
    terminal.send("\x11")
    assert terminal.wait() == 0
    assert saved(llama_chat_home)[-1].content == reply


# What may come from the app itself: colours, cursor movement, modes, titles of none.
HOSTILE = [
    "\x1b]0;owned\x07",  # window title
    "\x1b]52;c;b3duZWQ=\x07",  # clipboard
    "\x1b[2J\x1b[3J",  # clear, scrollback too
    "\x1b[?1049l",  # leave the alternate screen
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",  # hyperlink
    "\x1bP+q544e\x1b\\",  # DCS query
    "\x1b[6n\x1b[c",  # reports that come back as typed text
    "\x1b_Gf=24,s=1,v=1;AAAA\x1b\\",  # graphics
    "\x9b31mred\x9d0;owned\x9c",  # C1 forms
    "\x1bc",  # full reset
    "\x07\x08\x0b\x0c\x0e\x0f\x7f",
    "\u202egnirts\u202c \U000e0041",
]


def strip_known(output: bytes) -> bytes:
    """The output without the sequences that the app itself uses to draw."""
    output = re.sub(rb"\x1b\[[0-9;:]*m", b"", output)  # colours
    output = re.sub(rb"\x1b\[[0-9;]*[HABCDJK]", b"", output)  # movement
    return re.sub(rb"\x1b\[[?>=<]?[0-9;$]*[hlpuqc]", b"", output)  # modes, queries of the driver


def test_escape_sequences_in_replies_are_inert(start: Start, llama_chat_home: Path) -> None:
    """Every payload, delivered one character at a time, so that it is cut at every place there is."""
    reply = "begin " + " ".join(HOSTILE) + " end-of-reply"
    terminal = start(reply)
    clean_start = len(terminal.output)
    say_and_wait(terminal, b"end-of-reply")
    whole_reply(terminal, clean_start)
    terminal.pump(0.3)
    drawn = bytes(terminal.output[clean_start:])
    for forbidden in (b"\x1b]0", b"\x1b]52", b"\x1b]8", b"\x1bP", b"\x1b_", b"\x1bc", b"\x1b[6n", b"\x1b[3J"):
        assert forbidden not in drawn, forbidden
    text = strip_known(drawn).decode("utf-8", "replace")
    bad = {
        c for c in text if (ord(c) < 0x20 and c not in "\r\n\x1b") or 0x7F <= ord(c) < 0xA0 or c == "\u202e"
    }
    assert not bad
    assert "⟨U+202E⟩" in text
    terminal.send("\x11")
    assert terminal.wait() == 0
    assert saved(llama_chat_home)[-1].content == reply, "the transcript keeps what the model said"


def test_an_open_editor_holds_up_neither_saving_nor_the_end(
    start: Start, llama_chat_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "editor.txt"
    editor = tmp_path / "editor.sh"
    editor.write_text(f'#!/bin/sh\necho $$ "$1" > {note}.part; mv {note}.part {note}\nexec sleep 60\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    terminal = start("word ", "--endless", "--slow")
    say_and_wait(terminal, b"word word")
    terminal.send("draft\x07")  # Ctrl+G
    terminal.until(lambda _: note.exists())
    pid, edited = note.read_text().split()
    assert Path(edited).read_text() == "draft"
    terminal.until(lambda _: len(saved(llama_chat_home)) == 2)
    before = len(saved(llama_chat_home)[1].content)
    terminal.until(lambda _: len(saved(llama_chat_home)[1].content) > before + 100)
    terminal.signal(signal.SIGTERM)
    assert terminal.wait() == 128 + signal.SIGTERM
    terminal.until(lambda _: has_ended(int(pid)))
    assert not Path(edited).exists()
    assert saved(llama_chat_home)[1].status == "stopped"
    assert terminal.attributes() == terminal.initial


def test_a_terminal_that_reads_nothing_still_saves_at_the_end(start: Start, llama_chat_home: Path) -> None:
    terminal = start("word ", "--endless")
    terminal.send("go\r")
    deadline = time.monotonic() + 60
    while not reply_begun(llama_chat_home):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2.0)  # the event loop waits for the terminal by now
    terminal.signal(signal.SIGTERM)
    assert terminal.wait_unread() == 128 + signal.SIGTERM
    assert saved(llama_chat_home)[1].status == "stopped"
    assert terminal.attributes() == terminal.initial


def test_where_nothing_can_be_saved_the_chat_goes_on_and_the_end_says_so(
    start: Start, llama_chat_home: Path
) -> None:
    path = llama_chat_home / "data" / "chats.db"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    terminal = start("some words")
    terminal.send("hello\r")
    terminal.until(lambda out: b"newer" in out)
    terminal.until(lambda out: b"words" in out)
    terminal.send("\x11")
    assert terminal.wait() == 0
    assert b"Not saved, and lost with this window: 2 message(s)" in bytes(terminal.output)
    assert path.read_bytes() == before
