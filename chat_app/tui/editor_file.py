"""The file that an external editor is given: this user's alone, and gone afterwards with all beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = "/dev/shm"


@contextmanager
def editor_file(text: str, *, in_memory: bool) -> Iterator[Path]:
    """A file with `text`, alone in a folder of 0700, so that an editor's swap and backup files go with it.

    in_memory: nothing that is typed may reach a disk (`--no-save`), so it lies on a file system in memory.
    Raises OSError where there is none.
    """
    with tempfile.TemporaryDirectory(prefix="llama-chat-", dir=_memory() if in_memory else None) as folder:
        path = Path(folder) / "prompt.md"
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        yield path


def _memory() -> str:
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), MEMORY):
        if folder and os.access(folder, os.W_OK) and _is_memory(folder):
            return folder
    raise OSError("with --no-save nothing typed is written to disk, and there is no folder in memory here")


def _is_memory(folder: str) -> bool:
    """Whether a folder lies on a tmpfs, as Linux lists it."""
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:
            kinds = {fields[1]: fields[2] for fields in map(str.split, mounts) if len(fields) > 2}
    except OSError:
        return False
    path = Path(folder).resolve()
    nearest = next((str(one) for one in (path, *path.parents) if str(one) in kinds), "")
    return kinds.get(nearest) in ("tmpfs", "ramfs")
