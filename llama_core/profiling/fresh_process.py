"""Run a function in a process of its own: what ran before in this one would blur its memory and its times."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")

_HELD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)` in a new process (both must be picklable); raises what it raises.

    The child ends with this call, however it ends: Ctrl+C does not wait for it, and it ends with this process
    too. Raises RuntimeError where it ends without an answer, as when the system takes its memory away.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    try:
        with _signals_held():
            child.start()
        sender.close()
        answer, error = receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"the measuring process ended early, with exit code {child.exitcode}") from None
    finally:
        sender.close()
        receiver.close()
        if child.pid is not None:
            child.kill()
            child.join()
    if error is not None:
        raise error
    result: Result = answer
    return result


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """What ends this process waits until the end of the block, and in a child that is started there until it
    asks. Ctrl+C reaches every process of a terminal, and a parent that leaves while it starts a child cannot
    end it: both would have a child that still imports its modules die with a traceback."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its own start would let them through
    came: list[int] = []
    handlers: dict[int, Any] = {}
    # The mask is for the child. Here it holds but this thread, and Python calls handlers in the main one
    # whichever thread a signal reaches (the BLAS has some of its own).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _HELD:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    handlers[number] = signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in came:
            signal.raise_signal(number)


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Ctrl+C reaches every process of a terminal; the parent decides, and says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
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
