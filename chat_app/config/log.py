"""The log file: what went wrong and where, for whoever looks for a fault. No prompt and no reply is in it.

A record's message is the program's own words. What an exception says may quote a user's text, so of an
exception only its type and the places in the code are written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path

from chat_app.config.paths import ensure_dir
from chat_app.text.sanitize import clean_line

MAX_BYTES = 1 << 20
PACKAGES = ("chat_app", "llama_core")


class PlacesOnly(logging.Formatter):
    """Time, level, module and message; of an exception its type and its lines of code, not its words."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} [{process}] {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        """A line of the log; words that another handler made of the exception are not taken."""
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Types and lines of code of the error and its causes, without their texts."""
        import traceback

        lines: list[str] = []
        error = ei[1] if isinstance(ei, tuple) else None
        while isinstance(error, BaseException):
            lines.append(type(error).__name__)
            lines += [
                f"  {frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
            error = error.__cause__ or error.__context__
        return "\n".join(lines)


class PrivateFile(logging.FileHandler):
    """A file of 0600, made with its first record. A log that cannot be written disturbs nobody."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_size > MAX_BYTES:
                os.replace(path, path.with_name(path.name + ".1"))
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(PlacesOnly())

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record; the first one makes the folder and the file."""
        with contextlib.suppress(OSError):
            if self.stream is None:
                ensure_dir(Path(self.baseFilename).parent)
                os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nobody is told."""


class Warnings(logging.Handler):
    """Warnings for the person, one line each on stderr, without control codes. Errors are told elsewhere."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: record.levelno == logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message as one clean line."""
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(clean_line(record.getMessage(), 1000) + "\n")


def log_to(path: Path) -> None:
    """Send what this program's modules log to `path`, and warnings to stderr too. Called once, by the command
    line; a second call takes the place of the first."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        for old in [one for one in logger.handlers if isinstance(one, PrivateFile | Warnings)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(PrivateFile(path))
        logger.addHandler(Warnings())
        logger.setLevel(logging.INFO)
