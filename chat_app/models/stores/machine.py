"""Where programs keep their files on a machine, and how a foreign folder is looked through."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat_app.text.paths import home_folder
from llama_core.ordinary_files import read_ordinary

MAX_DEPTH = 8
MAX_ENTRIES = 50_000
MAX_SMALL_BYTES = 1 << 20  # a manifest or a config; a file beyond that is neither


@dataclass(frozen=True, slots=True)
class Machine:
    """What the places depend on, passed so that a test can be any machine. platform: as `sys.platform`."""

    home: Path = field(default_factory=home_folder)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    platform: str = sys.platform
    shared: Path = Path("/usr/share")

    def folder(self, variable: str) -> Path | None:
        """The folder that an environment variable names, or None where it is not set."""
        text = self.environ.get(variable, "").strip()
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return Path(text) if text else None

    @property
    def cache(self) -> Path:
        """Where this system keeps what can be made again."""
        if self.platform == "darwin":
            return self.home / "Library" / "Caches"
        if self.platform == "win32":
            return self.folder("LOCALAPPDATA") or self.home / "AppData" / "Local"
        return self.unix_cache

    @property
    def unix_cache(self) -> Path:
        """Where programs that know Linux's rule only keep their cache."""
        return self.folder("XDG_CACHE_HOME") or self.home / ".cache"

    @property
    def local_data(self) -> Path:
        """Where this system keeps programs' own data for this machine."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self.folder("LOCALAPPDATA") or self.home / "AppData" / "Local"
        return self.folder("XDG_DATA_HOME") or self.home / ".local" / "share"

    @property
    def roaming_data(self) -> Path:
        """As `local_data`, but for the part of it that follows a user of Windows."""
        if self.platform == "win32":
            return self.folder("APPDATA") or self.home / "AppData" / "Roaming"
        return self.local_data


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below `root` with the names of its files, sorted; what cannot be read is left out.

    Links are followed, since people put models onto other disks; each real folder is visited once, so that
    circles end. Hidden folders are passed over. Depth and number of entries are bounded.
    """
    seen: set[tuple[int, int]] = set()
    left = MAX_ENTRIES
    waiting = [(root, 0)]
    while waiting and left > 0:
        folder, depth = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            files: list[str] = []
            folders: list[str] = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        break
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError:
            continue
        yield folder, sorted(files)
        if depth < MAX_DEPTH:
            names = sorted((name for name in folders if not name.startswith(".")), reverse=True)
            waiting += [(folder / name, depth + 1) for name in names]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a small file. Raises ValueError with a phrase for what is none, OSError."""
    data = read_ordinary(path, MAX_SMALL_BYTES + 1)
    if len(data) > MAX_SMALL_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_SMALL_BYTES:,} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is no JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value
