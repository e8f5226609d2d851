"""Standard streams: what goes to a terminal is made inert, and a reader that has gone is no fault."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from chat_app.text.decode import decode_text
from chat_app.text.errors import UsageError
from chat_app.text.formatting import Transfer
from chat_app.text.sanitize import clean


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person sits behind `stream` (which may be missing or closed)."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def write(text: str, *, end: str = "") -> None:
    """Write to stdout at once. Exact into a file or pipe; without control codes onto a terminal.

    Raises OSError, with a sentence where there is no stdout at all.
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    text += end
    sys.stdout.write(clean(text) if is_terminal(sys.stdout) else text)
    sys.stdout.flush()


def say(text: str, *, end: str = "\n") -> None:
    """A line for the person, on stderr, always without control codes. A closed stderr is ignored."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(clean(text) + end)
        sys.stderr.flush()


def use_utf8() -> None:
    """Replies are UTF-8 whatever the locale says; what cannot be encoded is replaced, never fatal."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")


def read_stdin() -> str | None:
    """All of stdin where it is no terminal, else None. Another encoding than UTF-8 is told on stderr.

    Raises UsageError for what is no text.
    """
    if sys.stdin is None or is_terminal(sys.stdin):
        return None
    try:
        data = sys.stdin.buffer.read()
    except (OSError, ValueError):
        return None  # closed, as under some schedulers
    return _decode_stdin(data)


def read_piped_line() -> str | None:
    """The next line of a stdin that is no terminal; None at its end. Raises as `read_stdin` does."""
    try:
        data = sys.stdin.buffer.readline()
    except (OSError, ValueError):
        return None
    return _decode_stdin(data).rstrip("\r\n") if data else None


def _decode_stdin(data: bytes) -> str:
    try:
        text, encoding = decode_text(data)
    except ValueError as error:
        raise UsageError(f"stdin cannot be read as text: {error}.") from None
    if encoding != "UTF-8":
        say(f"stdin is not in UTF-8; it is read as {encoding}.")
    return text


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """End the block silently when the reader of stdout has closed it, as `head` does."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit; it must find a place that takes the rest.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


class ProgressLine:
    """One line on stderr that is drawn over; silent where stderr is no terminal."""

    WIDTH = 24

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown = ""
        self._transfer = Transfer()
        self._live = is_terminal(sys.stderr)

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """Bytes, with their rate and the time left."""
        self._draw(done_bytes, total_bytes, self._transfer.text(done_bytes, total_bytes))

    def count(self, done: int, total: int) -> None:
        """What is counted one by one, such as tensors: `done` of `total`."""
        self._draw(done, total, f"{done:,} of {total:,}")

    def _draw(self, done: int, total: int, amount: str) -> None:
        share = min(1.0, done / total) if total > 0 else 0.0
        filled = round(share * self.WIDTH)
        self.say(f"{self._title} [{'#' * filled}{'.' * (self.WIDTH - filled)}] {share:4.0%} {amount}")

    def say(self, line: str) -> None:
        """Something that cannot be counted."""
        if self._live and line != self._shown:
            say(line.ljust(len(self._shown)), end="")
            sys.stderr.write("\r")
            sys.stderr.flush()
            self._shown = line

    def say_once(self, line: str) -> None:
        """What is worth a line of its own where none can be drawn over, such as in a log."""
        if not self._live and line != self._shown:
            say(line)
            self._shown = line
        self.say(line)

    def close(self) -> None:
        """Wipe the line, if there is one."""
        if self._live and self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")
            sys.stderr.flush()
            self._shown = ""
