"""Bytes to keys: a paste is text whatever it holds, and however it is cut; a burst of keys stays in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from textual._compositor import Compositor
from textual.app import ComposeResult
from textual.events import Key, Paste
from textual.screen import Screen
from textual.widgets import Input

from chat_app.tui.widgets.messages.view import MessageView

pytest.importorskip("termios", reason="needs a pseudo-terminal's driver")
from chat_app.tui.terminal.input import GuardedDriver, GuardedParser

MakeApp = Callable[..., Any]
EVIL = "error: \x1b[31mfail\rrm -rf x\r\x1b\x1b[20\x1b[201\a\x1b[20~\x1bOP\x1b" + "\x1b[1;2;3" * 9 + "end"


def read(parser: GuardedParser, *parts: str) -> list[tuple[str, str]]:
    """(kind, text) of all that comes out."""
    found: list[tuple[str, str]] = []
    for part in parts:
        for message in parser.feed(part):
            if isinstance(message, Key):
                found.append(("key", message.key))
            elif isinstance(message, Paste):
                found.append(("paste", message.text))
    return found


@pytest.mark.parametrize("text", [EVIL, "", "\x1b", "plain", "\x1b[200~", "[201~"])
def test_a_paste_is_one_text_in_every_split(text: str) -> None:
    stream = f"a\x1b[200~{text}\x1b[201~b"
    wanted = [("key", "a"), ("paste", text.replace("\x1b", "")), ("key", "b")]
    assert read(GuardedParser(), *stream) == wanted
    for cut in range(1, len(stream)):
        assert read(GuardedParser(), stream[:cut], stream[cut:]) == wanted, cut


def test_keys_outside_a_paste_are_as_before() -> None:
    stream = "x\x1b[A\x1b[1;5D\x1b[13;2u\x1b\x7fy"
    wanted = ["x", "up", "ctrl+left", "shift+enter", "ctrl+w", "y"]
    assert [key for _, key in read(GuardedParser(), *stream)] == wanted
    assert read(GuardedParser(), "\x1b\r") == [("key", "alt+enter")]


def test_alt_with_a_letter_types_none() -> None:
    keys = [one for one in GuardedParser().feed("\x1bn\x1bn\x1b[110;3un\x1b[A\x1b7") if isinstance(one, Key)]
    assert [(one.key, one.is_printable) for one in keys] == [
        ("alt+n", False), ("alt+n", False), ("alt+n", False), ("n", True), ("up", False), ("alt+7", False)
    ]  # fmt: skip


def test_a_marker_on_a_slow_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a marker is no key, an Escape alone is one."""
    now = [0.0]
    monkeypatch.setattr("textual._parser.get_time", lambda: now[0])
    monkeypatch.setattr("chat_app.tui.terminal.input.get_time", lambda: now[0])
    parser = GuardedParser()
    assert read(parser, "\x1b[20") == []
    now[0] = 0.8
    assert list(parser.tick()) == []
    assert read(parser, "0~r\x1b[201~") == [("paste", "r")]
    assert read(parser, "\x1b") == []
    now[0] = 1.0
    assert [message.key for message in parser.tick() if isinstance(message, Key)] == ["escape"]
    assert read(parser, "[200~")[0] == ("key", "left_square_bracket")


@pytest.fixture
def start(tmp_path: Any, llama_chat_home: Any) -> Iterator[Callable[[], Any]]:
    import sys

    from tests.support.terminal import Terminal

    model, script = tmp_path / "tiny.gguf", tmp_path / "reply.txt"
    model.write_bytes(b"GGUF")
    script.write_text("fine")
    argv = [sys.executable, "-m", "tests.support.fake_app", str(model), str(script)]
    env = {**os.environ, "TERM": "xterm-256color", "EDITOR": "touch " + str(tmp_path / "edited") + " &&"}
    found = Terminal(argv, env)
    found.until(lambda out: b"ready" in out)
    yield found
    found.close()


def stored(home: Any) -> list[str]:
    from tests.support.chats import store_of

    store = store_of(home)
    return [message.content for chat in store.list() for message in store.read(chat.id).path()]


def test_a_hostile_paste_in_a_terminal(start: Any, tmp_path: Any, llama_chat_home: Any) -> None:
    start.send("\x1b[200~error: \x1b[31mfail\rrm -rf x\r\x07 \x1b]0;t\x07end\x1b[201~")
    start.until(lambda out: b"rm -rf x" in out)
    start.pump(0.5)
    assert not stored(llama_chat_home)
    start.send("!\r")
    start.until(lambda out: b"tok/s" in out)
    start.send("\x11")
    start.wait()
    assert stored(llama_chat_home)[0] == "error: [31mfail\nrm -rf x\n ]0;tend!"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("hello teh\x7f\x7fhe world", "hello the world"),
        ("abc\x1b[D\x1b[DX", "aXbc"),
        ("one two\x17three", "one three"),
        ("abcdef\x01Z", "Zabcdef"),
        ("abc\x1b\rd", "abc\nd"),
    ],
)
def test_a_burst_of_keys_stays_in_order(start: Any, llama_chat_home: Any, keys: str, text: str) -> None:
    start.send(keys)
    start.pump(0.3)
    start.send("\r")
    start.until(lambda out: b"tok/s" in out)
    start.send("\x11")
    start.wait()
    assert stored(llama_chat_home)[0] == text


async def test_tab_stays_in_the_prompt(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        d = drive(pilot)
        await d.ready()
        await d.say("hello")
        await d.press("a", "tab", "r")
        assert d.chat.prompt.text == "a   r"
        assert d.app.focused is d.chat.prompt


async def test_text_typed_on_a_message_goes_to_the_prompt(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        d = drive(pilot)
        await d.ready()
        await d.say("hello")
        await d.press("alt+up")
        assert isinstance(d.app.focused, MessageView)
        text = "regarding bicycle wheels"
        await d.press(*("space" if one == " " else one for one in text))
        assert d.chat.prompt.text == text
        assert d.app.focused is d.chat.prompt
        assert len(d.words()) == 2


async def test_a_remapped_editing_key(make_app: MakeApp, drive: Any) -> None:
    keymap = {"prompt.older": "ctrl+t"}
    async with make_app(keymap=keymap).run_test(size=(100, 34)) as pilot:
        d = drive(pilot)
        await d.ready()
        await d.say("hello")
        await d.press("ctrl+t")
        await d.until(lambda: d.chat.prompt.text == "hello")


async def test_completions_are_chosen_with_the_arrows(make_app: MakeApp, drive: Any) -> None:
    from chat_app.chat.commands import SLASH
    from chat_app.tui.widgets.status import CompletionList

    names = [command.name for command in SLASH]
    async with make_app().run_test(size=(100, 34)) as pilot:
        d = drive(pilot)
        await d.ready()
        await d.press("slash", "up")
        assert d.app.screen.query_one(CompletionList).marked_for(d.chat.prompt.text).line.strip() == names[-1]
        assert f"{names[-1]} " in d.screen_text()
        await d.press("down", "down", "tab")
        assert d.chat.prompt.text == names[1]
        d.chat.prompt.set_text("/set")
        await d.press("space")
        await d.until(lambda: "0.7 · 0 is greedy" in d.screen_text())
        await d.press("x", "tab")
        assert d.chat.prompt.text == "/set x"


async def test_enter_takes_the_marked_completion(make_app: MakeApp, drive: Any) -> None:
    """Enter never does what is not under the eyes: the marked row, whole or to be completed."""
    from chat_app.tui.widgets.status import CompletionList

    async with make_app().run_test(size=(100, 34)) as pilot:
        d = drive(pilot)
        await d.ready()
        completions = d.app.screen.query_one(CompletionList)

        async def enter() -> None:
            await d.until(lambda: completions.marked_for(d.chat.prompt.text))  # it is on the screen
            await d.press("enter")

        await d.press("slash")
        await enter()  # the first row is marked
        await d.until(lambda: "Keys and commands" in d.screen_text())
        await d.press("escape", *"/sear")
        await enter()  # one row is left, and it wants a text
        assert d.chat.prompt.text == "/search "
        d.chat.prompt.set_text("/set tempe")
        await enter()
        assert d.chat.prompt.text == "/set temperature "
        await enter()  # nothing is missing any more that could be completed: the value is shown
        await d.until(lambda: "temperature is 0.7" in d.notices()[-1])
        assert d.chat.prompt.text == ""
        await d.press(*"/hlep", "enter")
        assert "Did you mean /help?" in d.notices()[-1]


async def test_suspend_stops_the_whole_job(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.killpg", lambda group, number: sent.append((group, number)))
    app = make_app()
    async with app.run_test():
        with monkeypatch.context() as patch:
            patch.setattr(app, "_driver", SimpleNamespace(can_suspend=True))
            app.action_suspend_process()
    assert sent == [(0, signal.SIGTSTP)]


async def test_the_whole_screen_is_drawn_after_a_stop(
    make_app: MakeApp, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[None] = []
    draw = Compositor.render_full_update

    def counted(compositor: Compositor, *arguments: Any, **options: Any) -> Any:
        whole.append(None)
        return draw(compositor, *arguments, **options)

    async with make_app().run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await pilot.pause()
        monkeypatch.setattr(Compositor, "render_full_update", counted)
        pilot.app.post_message(GuardedDriver.SignalResume())
        await user.until(lambda: whole)


async def test_a_stop_in_the_middle_of_a_write_waits_for_its_end(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler writes too, and would wait for the lock that the interrupted write holds."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)}
    done: list[str] = []
    monkeypatch.setattr(GuardedDriver, "suspend_application_mode", lambda self: done.append("given away"))
    monkeypatch.setattr(GuardedDriver, "resume_application_mode", lambda self: done.append("back"))
    monkeypatch.setattr("os.kill", lambda process, number: done.append(signal.Signals(number).name))
    try:
        GuardedDriver(make_app())
        signal.raise_signal(signal.SIGTSTP)
        signal.raise_signal(signal.SIGCONT)
        assert done == []
        await asyncio.sleep(0)
        assert done == ["given away", "SIGSTOP", "back"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def test_what_is_typed_before_a_screen_has_its_widgets_waits_for_them(until: Any) -> None:
    from chat_app.tui.terminal.app import TerminalApp

    composed = asyncio.Event()

    class Slow(Screen[None]):
        async def _compose(self) -> None:
            await composed.wait()
            await super()._compose()

        def compose(self) -> ComposeResult:
            yield Input()

    app = TerminalApp()
    async with app.run_test() as pilot:
        slow = Slow()
        app.push_screen(slow)
        for letter in "ab":
            app.post_message(Key(letter, letter))
        app.post_message(Paste("c\x1bd"))
        app.post_message(Key("e", "e"))
        for _ in range(99):  # a pilot's pause would wait for the screen
            await asyncio.sleep(0)
        composed.set()
        await until(pilot, lambda: slow.is_mounted and not app._early)
        await pilot.press("f")
        assert slow.query_one(Input).value == "abcdef"
