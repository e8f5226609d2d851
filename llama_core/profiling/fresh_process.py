"""Run a function in a process of its own: what ran before in this one would blur its memory and its times."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)` in a new process (both must be picklable); raises what it raises.

    The child ends with this call, however it ends: Ctrl+C does not wait for it, and it ends with this process
    too. Raises RuntimeError where it ends without an answer, as when the system takes its memory away.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    child.start()
    sender.close()
    try:
        answer, error = receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"the measuring process ended early, with exit code {child.exitcode}") from None
    finally:
        receiver.close()
        child.kill()
        child.join()
    if error is not None:
        raise error
    result: Result = answer
    return result


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Ctrl+C reaches every process of a terminal; the parent decides, and says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        sender.send((function(*arguments), None))
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        sender.send((None, error))


def _end_with_parent() -> None:
    """A parent that was killed could not end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
