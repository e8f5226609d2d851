"""The helper threads that run a step beside the caller."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.build.library import Library
from llama_core.backends.jit.control.records import Plan, Shared

# After a helper was taken off its core in the middle of a step, the caller works alone for so long. Once is
# chance and soon over. A helper that is lost again as soon as it is back shares its core with another
# program: the time doubles, up to the last.
ALONE_S = 0.004, 0.25
_SEM_BYTES = 64  # more than any platform's sem_t


class ThreadPool:
    """Helpers 1 .. threads - 1; the caller is thread 0.

    They live in compiled code without the interpreter's lock and sleep between steps, so that a busy screen
    thread does not hold them up. `plan` needs n_threads and shared; the rest of it is told before `run`.
    `memory` owns what the plan points to.
    """

    def __init__(self, library: Library, plan: Plan, shared: Shared, memory: tuple[object, ...]) -> None:
        self._library = library
        self._plan = plan.address
        self._shared = shared
        self._alone_since: float | None = None  # while the caller works alone
        self._together_since = 0.0
        self._alone_s = ALONE_S[0]
        n_threads = plan.n_threads
        # What the helpers' code refers to lives as long as they do: they hold it through `keep`.
        keep: list[Any] = [library, plan, shared, memory]
        sleepers = np.zeros(n_threads, dtype=np.int64)
        plan.give_way = _yield_function(keep)
        plan.sleep, plan.wake = _sleep_functions(sleepers, keep)
        plan.sleep_arguments = address(sleepers)
        keep.append(sleepers)
        helpers = []
        for thread in range(1, n_threads):
            helper = threading.Thread(
                target=_help,
                args=(library.helper, self._plan, thread, keep),
                name=f"jit-{thread}",
                daemon=True,
            )
            helper.start()
            helpers.append(helper)
        self._finalizer = weakref.finalize(self, _stop, library.stop, self._plan, helpers, keep)

    def run(self) -> None:
        """One planned step."""
        if self._alone_since is not None:
            now = time.monotonic()
            if now - self._alone_since > self._alone_s:
                self._shared.alone = 0
                self._alone_since, self._together_since = None, now
        self._library.run(self._plan)
        if self._alone_since is None and self._shared.alone:
            now = time.monotonic()
            soon = now - self._together_since < self._alone_s
            self._alone_s = min(2 * self._alone_s, ALONE_S[1]) if soon else ALONE_S[0]
            self._alone_since = now

    def close(self) -> None:
        """End the helpers. May be called twice; also happens when the object is collected or at exit."""
        self._finalizer()


def _help(helper: Callable[..., None], plan: int, thread: int, keep: list[Any]) -> None:
    helper(plan, thread)


def _stop(stop: Callable[..., None], plan: int, helpers: list[threading.Thread], keep: list[Any]) -> None:
    stop(plan)
    for helper in helpers:
        helper.join()


def _yield_function(keep: list[Any]) -> int:
    library: Any = ctypes.CDLL("kernel32") if sys.platform == "win32" else ctypes.CDLL(None)
    function = library.SwitchToThread if sys.platform == "win32" else library.sched_yield
    keep.append(function)
    return _address(function)


def _sleep_functions(sleepers: NDArray[np.int64], keep: list[Any]) -> tuple[int, int]:
    """Addresses of `sleep(argument)` and `wake(argument)`; writes each helper's argument."""
    if not sys.platform.startswith("linux"):
        return _python_sleep_functions(sleepers, keep)
    libc: Any = ctypes.CDLL(None)
    for thread in range(1, len(sleepers)):
        semaphore = ctypes.create_string_buffer(_SEM_BYTES)
        if libc.sem_init(semaphore, 0, 0):
            return _python_sleep_functions(sleepers, keep)
        keep.append(semaphore)
        sleepers[thread] = ctypes.addressof(semaphore)
    keep.append(libc)
    return _address(libc.sem_wait), _address(libc.sem_post)


def _python_sleep_functions(sleepers: NDArray[np.int64], keep: list[Any]) -> tuple[int, int]:
    """The same with Python's semaphores, for systems without POSIX ones; a wake-up needs the lock."""
    semaphores = [threading.Semaphore(0) for _ in sleepers]
    sleepers[:] = range(len(sleepers))
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64)

    def sleep(thread: int) -> int:
        semaphores[thread].acquire()
        return 0

    def wake(thread: int) -> int:
        semaphores[thread].release()
        return 0

    functions = prototype(sleep), prototype(wake)
    keep.extend(functions)
    return _address(functions[0]), _address(functions[1])


def _address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
