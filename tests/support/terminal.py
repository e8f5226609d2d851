"""A pseudo-terminal with a process in it: what it writes is kept, keys can be sent."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any


def read_to_end(main_end: int) -> bytes:
    """All that processes write to a pseudo-terminal, until the last of them has ended; closes our side."""
    shown = b""
    while True:
        try:
            data = os.read(main_end, 4096)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(main_end)
    return shown


class Terminal:
    """`read=False` is a terminal that reads nothing until `pump` is called."""

    def __init__(self, argv: list[str], env: dict[str, str], size: tuple[int, int] = (80, 24)) -> None:
        self.output = bytearray()
        self.status: int | None = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(argv[0], argv, env)
            except OSError as error:
                print(error, file=sys.stderr)
            os._exit(127)
        self.initial = termios.tcgetattr(self.fd)  # the modes before the process changes them
        self.resize(*size)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def pump(self, seconds: float = 0.0) -> bytes:
        """Read what is there for `seconds`; returns the new output."""
        start = len(self.output)
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:  # the other side is closed
                    data = b""
                if not data:
                    break
                self.output += data
            elif left == 0.0:
                break
        return bytes(self.output[start:])

    def until(self, true: Callable[[bytes], object], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not true(bytes(self.output)):
            assert time.monotonic() < deadline, bytes(self.output[-2000:])
            self.pump(0.05)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit code; output is read meanwhile."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            self._poll()
            if self.status is None:
                assert time.monotonic() < deadline, "the process does not end"
                self.pump(0.02)
        self.pump(0.05)
        return self.status

    def _poll(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)

    def hang_up(self) -> None:
        """Close our side, as a terminal window does."""
        os.close(self.fd)
        self.fd = -1

    def wait_unread(self, timeout: float = 30.0) -> int:
        """The exit code of a process whose terminal is gone."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            self._poll()
            assert time.monotonic() < deadline, "the process does not end"
            time.sleep(0.02)
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.fd >= 0:
            os.close(self.fd)

    def attributes(self) -> list[Any]:
        """The terminal's modes, to compare before and after."""
        return termios.tcgetattr(self.fd)
