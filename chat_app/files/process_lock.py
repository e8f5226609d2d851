"""An advisory lock between processes (and between two openings in one); the system frees it at any death."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path

# Some network file systems have no locks. Writing there without one beats never writing.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_POLL_S = 0.002

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class ProcessLock:
    """A lock on a file of its own, which is never removed: removing it would let two owners hold two files.

    A separate file, because a lock on Windows also keeps others from reading what it covers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """True when the lock is held; False when another holds it still after `timeout_s` seconds.

        Raises OSError where the lock file cannot be made (a read-only disk, a missing folder)."""
        if self._fd is not None:
            return True
        flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | flags, 0o600)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                _lock(fd)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    if time.monotonic() < deadline:
                        time.sleep(_POLL_S)
                        continue
                    self._close(fd)
                    return False
            self._fd = fd
            return True

    def release(self) -> None:
        """Give the lock back; harmless where it is not held."""
        if self._fd is not None:
            self._close(self._fd)
            self._fd = None

    def _close(self, fd: int) -> None:
        # The descriptor is gone whatever close answers, and the lock with it.
        with contextlib.suppress(OSError):
            os.close(fd)
