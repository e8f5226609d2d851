"""Bytes from the terminal on their way to keys: what is pasted can never act as keys.

Textual's parser looks for escape sequences inside a bracketed paste too and gives out what it does not know
as keys. So an ESC between the paste's markers is dropped before the parser sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import selectors
import signal
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key
from textual.message import Message

from chat_app.tui.terminal.background import ASK, WAIT_S, AnswerFilter, BackgroundTold
from chat_app.tui.terminal.title import BACK, KEEP
from chat_app.tui.textual_private import (
    BRACKETED_PASTE_END,
    BRACKETED_PASTE_START,
    ParseError,
    XTermParser,
    get_time,
    timeout_of,
)

ESC = "\x1b"
# What a terminal without the kitty protocol sends for Alt and a character that begins no sequence.
ALT_CHARACTER = re.compile(r"\x1b([^\x00-\x20\x7f\x1b\[\]\\OP^_])")
ALT_ENTER = "\x1b\r"  # what a terminal without the kitty protocol sends for Alt+Enter
READ_BYTES = 4096
MARKER_WAIT_S = 1.0  # a marker cut in two by a slow line; nothing else begins with its first three characters


class PasteGuard:
    """Drops every ESC inside a paste but that of its end marker. Knows only characters, not keys."""

    def __init__(self) -> None:
        self.pasting = False
        self.matched = ""  # how much of the next marker has been seen; inside a paste it is held back

    def filter(self, text: str) -> str:
        """What the parser may see of `text`, which continues what was given before."""
        if not self.pasting and not self.matched and ESC not in text:
            return text
        out: list[str] = []
        for character in text:
            if self.pasting:
                self._inside(character, out)
            else:
                out.append(character)
                self._match(character, BRACKETED_PASTE_START)
                if self.matched == BRACKETED_PASTE_START:
                    self.pasting, self.matched = True, ""
        return "".join(out)

    def _inside(self, character: str, out: list[str]) -> None:
        held = self.matched
        self._match(character, BRACKETED_PASTE_END)
        if self.matched == BRACKETED_PASTE_END:
            self.pasting, self.matched = False, ""
            out.append(BRACKETED_PASTE_END)
        elif len(self.matched) <= len(held):  # what was held back is no marker: text, without its ESC
            out.append(held[1:])
            if not self.matched:
                out.append(character)

    def _match(self, character: str, marker: str) -> None:
        longer = self.matched + character
        self.matched = longer if marker.startswith(longer) else ESC if character == ESC else ""


class GuardedParser(XTermParser):
    """Textual's parser behind a PasteGuard; ESC CR is Alt+Enter, and Alt with a letter types none."""

    def __init__(self, debug: bool = False) -> None:
        self.guard = PasteGuard()
        super().__init__(debug)

    def feed(self, data: str) -> Iterable[Message]:
        """Parse what has come in once the guard has let it through; "" is the end of the stream."""
        if not data:  # the end of the stream
            yield from super().feed(data)
            return
        pieces = ALT_CHARACTER.split(self.guard.filter(data))
        for piece, character in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
            if piece:
                yield from super().feed(piece)
            if character:  # Textual's parser would wait, and give out what it waited with as letters
                yield from self._sequence_to_key_events(character, alt=True)

    def tick(self) -> Iterable[Message]:
        """Give up a sequence that does not go on; half a paste marker is waited for longer."""
        timeout = timeout_of(self)
        if timeout is not None and not self.guard.pasting:
            late = get_time() - timeout
            if late < 0 or (len(self.guard.matched) > 1 and late < MARKER_WAIT_S):
                return
            self.guard.matched = ""
        yield from super().tick()

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        if sequence == ALT_ENTER:
            return [Key("alt+enter", None)]
        return map(_without_text, super()._sequence_to_key_events(sequence, alt=alt))


def _without_text(key: Key) -> Key:
    """A key pressed with Alt has no character: where it means nothing it would be typed as a letter."""
    return Key(key.key, None) if "alt" in key.key.split("+")[:-1] else key


class GuardedDriver(LinuxDriver):
    """Textual's driver for Linux and macOS with the guarded parser; it can ask for the background."""

    _answer: AnswerFilter | None = None  # while one is waited for
    _answer_until = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for number in (signal.SIGTSTP, signal.SIGCONT):
            _between_steps(number)

    def ask_background(self) -> None:
        """Ask the terminal; the app gets a BackgroundTold if it answers in time."""
        self._answer_until = get_time() + WAIT_S
        self._answer = AnswerFilter()
        self.write(ASK)

    def start_application_mode(self) -> None:
        """As LinuxDriver does; the window's title is kept for the end."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self.write(KEEP)

    def stop_application_mode(self) -> None:
        """As LinuxDriver does; the window has its title back."""
        self.write(BACK)
        super().stop_application_mode()

    def run_input_thread(self) -> None:
        """Wait for input and dispatch events, as LinuxDriver does."""
        parser = GuardedParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            try:
                while not self.exit_event.is_set():
                    self._read(parser, decode, bool(selector.select(0.1)))
            finally:
                with contextlib.suppress(EOFError, ParseError):
                    for _ in parser.feed(""):
                        pass

    def _read(self, parser: GuardedParser, decode: Callable[[bytes], str], ready: bool) -> None:
        if ready:
            try:
                data = os.read(self.fileno, READ_BYTES)
            except OSError:  # EIO: the terminal's other side is closed
                data = b""
            if not data:
                self._hang_up()
                return
            self._feed(parser, self._without_answer(decode(data)))
        elif self._answer is not None and get_time() > self._answer_until:
            rest, self._answer = self._answer.rest(), None
            self._feed(parser, rest)
        for message in parser.tick():
            self.process_message(message)

    def _feed(self, parser: GuardedParser, text: str) -> None:
        if text:
            for message in parser.feed(text):
                self.process_message(message)

    def _without_answer(self, text: str) -> str:
        """What of `text` are keys; an answer about the background goes to the app."""
        answer = self._answer
        if answer is None:
            return text
        text = answer.filter(text)
        if answer.told is not None:
            self._answer = None
            self.process_message(BackgroundTold(answer.told))
        return text

    def _hang_up(self) -> None:
        """The terminal is gone, and nobody told this process (it is not its controlling terminal)."""
        self.exit_event.set()
        signal.raise_signal(signal.SIGHUP)


def _between_steps(number: signal.Signals) -> None:
    """Let the running loop call a signal's handler.

    A signal comes while anything runs, the writing of a frame too. Textual's handlers give the terminal away
    at once, and so write: they would wait for ever for the lock that the interrupted write holds.
    """
    handler, loop = signal.getsignal(number), asyncio.get_running_loop()
    assert callable(handler), "the driver has set one"

    def later(number: int, frame: FrameType | None) -> None:
        if loop.is_running():
            loop.call_soon_threadsafe(handler, number, frame)
        else:
            handler(number, frame)

    signal.signal(number, later)
