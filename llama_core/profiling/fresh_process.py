"""Run a function in a process of its own: what ran before in this one would blur its memory and its times."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Result = TypeVar("Result")
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)` in a new process (both must be picklable); raises what it raises.

    The child ends with this call, however it ends: Ctrl+C does not wait for it, and it ends with this process
    too. Raises RuntimeError where it ends without an answer, as when the system takes its memory away.
    """
    with contextlib.closing(each_from_fresh_process(_once, function, *arguments)) as answers:
        answer: Result = next(answers)
        return answer


def each_from_fresh_process(
    function: Callable[..., Iterable[Result]], *arguments: Any
) -> Generator[Result, None, None]:
    """What `function(*arguments)` yields in a new process, each as it comes. Otherwise as `in_fresh_process`;
    closing the generator ends the child."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    try:
        # On a thread, where no signal interrupts it: a child that has half of what it starts with dies with a
        # traceback, and nobody would know of it to end it.
        with ThreadPoolExecutor(1) as starting:
            starting.submit(_start, child).result()
        sender.close()
        while True:
            answer, error, ended = receiver.recv()
            if error is not None:
                raise error
            if ended:
                return
            yield answer
    except EOFError:
        child.join()
        raise RuntimeError(f"the measuring process ended early, with exit code {child.exitcode}") from None
    finally:
        if child.pid is not None:  # first, or it would complain that nobody takes its answers
            child.kill()
            child.join()
        sender.close()
        receiver.close()


def _once(function: Callable[..., Result], *arguments: Any) -> Iterator[Result]:
    yield function(*arguments)


def _start(child: BaseProcess) -> None:
    """The child is born deaf to what ends programs, until `_answer` has said how it takes that."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # here, because it lifts what this thread blocks
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child.start()


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Ctrl+C reaches every process of a terminal; the parent decides, and says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the parent was killed
        try:
            for answer in function(*arguments):
                sender.send((answer, None, False))
            sender.send((None, None, True))
        except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
            sender.send((None, error, True))


def _end_with_parent() -> None:
    """A parent that was killed could not end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
