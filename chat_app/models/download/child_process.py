"""A child process whose output is read line by line while its parent may be told to stop.

Every stream is given explicitly: inside a running Textual app `sys.stderr` has no file descriptor, and a
child that would inherit it cannot be started.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from chat_app.console.interrupt import signals_raise

POLL_S = 0.05


class ChildStopped(Exception):  # noqa: N818 - it is what the caller asked for
    """The caller's `cancelled()` answered True; the child is gone."""


def run_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    stderr_path: Path,
    on_line: Callable[[str], None],
    cancelled: Callable[[], bool] | None = None,
    holds_stdin: bool = False,
) -> int:
    """Run `command`, give each line of its stdout to `on_line`, return its exit code.

    holds_stdin: its stdin stays open for as long as this process lives, so that one of ours ends with it
    (`end_with_parent`); else it is empty, for one that might ask there. stderr goes into `stderr_path`.
    Whatever ends this call (an exception of `on_line`, Ctrl+C, SIGTERM, `cancelled`, which raises
    ChildStopped) also ends the child. Raises OSError when it cannot be started.
    """
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with stderr_path.open("wb") as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if holds_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(environment),
            start_new_session=os.name == "posix",  # Ctrl+C reaches us alone; we end the child
        )
    reader = threading.Thread(
        target=_read_lines, args=(child.stdout, lines), name="child-output", daemon=True
    )
    reader.start()
    try:
        # The child, in a session of its own, would not hear of them, and what it has fetched would stay.
        with signals_raise(lambda number: SystemExit(128 + number)):
            while True:
                if cancelled is not None and cancelled():
                    raise ChildStopped
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=POLL_S)
                    if line is None:
                        return child.wait()
                    on_line(line)
    finally:
        _end(child)
        if child.stdin is not None:
            child.stdin.close()
        reader.join(timeout=5)


def end_with_parent() -> None:
    """In a child of `run_child` with `holds_stdin`: end as soon as its parent has, which may have been killed
    and so could end nothing. Else it would go on with what the parent's successor has begun."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):  # not through sys.stdin, whose lock the interpreter wants when it ends
                pass
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def _read_lines(stdout: IO[bytes] | None, lines: queue.SimpleQueue[str | None]) -> None:
    if stdout is not None:
        with stdout:
            for line in stdout:
                lines.put(line.decode("utf-8", "replace").rstrip("\r\n"))
    lines.put(None)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=2)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
