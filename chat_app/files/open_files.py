"""Whether this process may open as many files as a chat needs: asked once, at the start.

Later every library would find out in its own way: a half-made event loop, a module that cannot be imported, a
thread that waits for an answer that never comes.
"""

from __future__ import annotations

import contextlib
import errno
import os

from chat_app.text.errors import SentenceError

try:
    import resource
except ImportError:  # Windows knows no such limit
    resource = None  # type: ignore[assignment]

# The model, chats.db and its log, the template's helper, the event loop, the terminal: a dozen at once, and
# libraries that are loaded meanwhile.
NEEDED = 32


def require_open_files(n: int = NEEDED) -> None:
    """Make sure of `n` free descriptors, with a higher soft limit where the system allows one.

    Raises SentenceError where there are fewer.
    """
    if _are_free(n):
        return
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if _are_free(n):
            return
        limit = f" It may open {soft} at once (`ulimit -n`)."
    else:
        limit = ""
    raise SentenceError(f"Too many open files: this process needs room for {n} more.{limit}")


def _are_free(n: int) -> bool:
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        opened.extend(os.dup(opened[0]) for _ in range(n - 1))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return False
    finally:
        for one in opened:
            os.close(one)
    return True
