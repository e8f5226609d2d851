"""`hf:OWNER/REPO[/FILE]` or `hf:OWNER/REPO:TYPE`: models from a Hugging Face hub.

It is asked through the package `huggingface_hub`, in a child process: nothing else imports it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chat_app.config.paths import ensure_dir, get_paths
from chat_app.models.catalogue import HUB_PREFIX
from chat_app.models.download.child_process import run_child
from chat_app.models.download.errors import DownloadError, retry
from chat_app.models.download.file_hash import CHUNK, compute_sha256
from chat_app.models.download.files import check_space, place
from chat_app.models.download.hub_child import NOT_INSTALLED, REFUSED, UNCLEAR, key_of
from chat_app.models.facts import Facts, facts_of_file
from llama_core.own_code import module_command, module_environment

# What a header takes at most: the largest vocabularies have 8 MiB.
HEAD_BYTES = 16 << 20
NAME = re.compile(r"^[\w.-]+$")


def split_name(name: str) -> tuple[str, str, str]:
    """("OWNER/REPO", "FILE" or "", "TYPE" or "") of hf:OWNER/REPO[/FILE] or hf:OWNER/REPO:TYPE.

    Raises DownloadError when it is malformed.
    """
    path, colon, kind = name.removeprefix(HUB_PREFIX).partition(":")
    parts = path.split("/")
    sound = len(parts) == 2 or (len(parts) > 2 and not colon)
    if not sound or not all(NAME.match(part) and part.strip(".") for part in parts + [kind] * bool(colon)):
        raise DownloadError(
            f"{name!r} is not of the form hf:OWNER/REPO, hf:OWNER/REPO:TYPE or hf:OWNER/REPO/FILE."
        )
    return "/".join(parts[:2]), "/".join(parts[2:]), kind


def pull_from_hub(
    name: str,
    folder: Path,
    staged: Path,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Path:
    """Fetch, verify size and hash of every file, then move into the models folder.

    folder: empty, for this call. staged: keeps what has arrived when the download breaks, for the next one.
    Returns the GGUF file, or the folder of a safetensors model. Raises DownloadError, ChildStopped, OSError.
    """
    files = _run_child(name, folder, staged, on_progress, cancelled)
    for file in files:
        _inside(file["name"])
        _verify(staged / key_of(file), file, name, cancelled)
    return _place_all(staged, files, split_name(name)[0])


@dataclass(frozen=True, slots=True)
class Look:
    """What a hub has under a name: how many bytes, and what the header says (nothing of a folder)."""

    name: str
    nbytes: int
    facts: Facts


def look_at_hub(name: str, folder: Path, staged: Path, cancelled: Callable[[], bool] | None) -> Look:
    """Read the header of a model where it is; what was read need not be fetched again. Arguments and errors
    as for `pull_from_hub`."""
    files = _run_child(name, folder, staged, None, cancelled, HEAD_BYTES)
    nbytes = sum(file["size"] for file in files)
    heads = [file for file in files if str(file["name"]).lower().endswith(".gguf")]
    for file in heads:
        # The header where the file would be, and a hole for the rest.
        whole, part = staged / key_of(file), staged / f"{key_of(file)}.part"
        with (
            (whole if whole.exists() else part).open("rb") as source,
            (folder / _inside(file["name"]).name).open("xb") as target,
        ):
            target.write(source.read(HEAD_BYTES))
            target.truncate(file["size"])
    first = min((_inside(file["name"]).name for file in heads), default="")
    return Look(name, nbytes, facts_of_file(folder / first, (name,)) if first else Facts())


def _run_child(
    name: str,
    folder: Path,
    staged: Path,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
    head_bytes: int = 0,
) -> list[dict[str, Any]]:
    """What the hub promises of the model's files, once the child has fetched them, or their heads."""
    repo, wanted, kind = split_name(name)
    files: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if line.startswith("Files "):
            files.extend(json.loads(line.removeprefix("Files ")))
            total = sum(min(file["size"], head_bytes or file["size"]) for file in files)
            check_space(folder, total - _arrived(staged, files), name)

    def watch() -> bool:
        if on_progress is not None and files:
            total = sum(file["size"] for file in files)
            on_progress(min(_arrived(staged, files), total), total)
        return cancelled() if cancelled is not None else False

    child = "chat_app.models.download.hub_child"
    command = module_command(child, repo, str(staged), wanted, kind, str(head_bytes))
    environment = {**module_environment(), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONIOENCODING": "utf-8"}
    errors = folder / "hub-errors.txt"
    code = run_child(
        command,
        environment=environment,
        stderr_path=errors,
        on_line=on_line,
        cancelled=watch,
        holds_stdin=True,
    )
    if code != 0:
        raise DownloadError(explain(code, errors.read_text(encoding="utf-8", errors="replace"), repo, name))
    return files


def _arrived(staged: Path, files: list[dict[str, Any]]) -> int:
    """The bytes of `files` that are here already."""
    total = 0
    for file in files:
        for path in (staged / key_of(file), staged / f"{key_of(file)}.part"):
            with contextlib.suppress(OSError):  # not begun, or renamed between the two looks
                total += path.stat().st_size
    return total


def _inside(file_name: str) -> PurePosixPath:
    """A file name of the hub as a relative path. Raises DownloadError when it would leave the folder."""
    path = PurePosixPath(file_name)
    if path.is_absolute() or ".." in path.parts or "\\" in file_name or ":" in file_name:
        raise DownloadError(f"The hub names a file {file_name!r}, which was refused.")
    return path


def _verify(path: Path, promised: dict[str, Any], name: str, cancelled: Callable[[], bool] | None) -> None:
    """Compare a file with the hub's promise: SHA-256 for large files, git's own hash for small ones."""
    good = promised["size"] is None or path.stat().st_size == promised["size"]
    if good and promised["sha256"]:
        good = compute_sha256(path, cancelled) == promised["sha256"]
    elif good and promised["blob_id"]:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        good = digest.hexdigest() == promised["blob_id"]
    if not good:
        path.unlink()  # so that the next download begins anew
        raise DownloadError(
            f"What arrived as {promised['name']} is not what the hub promised (size or hash differs). "
            f"It was deleted. {retry(name)}"
        )
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _place_all(staged: Path, files: list[dict[str, Any]], repo: str) -> Path:
    """Move every file; last the one by which the app finds the model (config.json, or a first piece)."""
    root = ensure_dir(get_paths().models / "hf" / repo)
    names = [str(file["name"]) for file in files]
    first = "config.json" if "config.json" in names else min(names)
    placed: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: file["name"] == first):
        target = root / _inside(file["name"])
        ensure_dir(target.parent)
        key = key_of(file)
        if key in placed:  # the same bytes under another name
            shutil.copyfile(placed[key], staged / key)
        placed[key] = place(staged / key, target)
    return root if first == "config.json" else root / first


def explain(code: int, errors: str, repo: str, name: str) -> str:
    """A failed child's exit code and stderr in plain words."""
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")[:400]
    if code == NOT_INSTALLED:
        return (
            "Fetching from a hub needs the package huggingface_hub, which is not installed. "
            f"Install it, or llama-chat anew. {retry(name)}"
        )
    if code == UNCLEAR:
        return f"Nothing of hf:{repo} was fetched: {last}. As in: llama-chat models pull hf:{repo}/FILE"
    if code == REFUSED:
        return f"Fetching hf:{repo} was given up: {last}. {retry(name)}"
    if re.search(r"RepositoryNotFound|RevisionNotFound|GatedRepo|\b40[134]\b", errors):
        return (
            f"The hub has no repository {repo} that you may read "
            f"(a private or gated one needs `hf auth login`). {retry(name)}"
        )
    if re.search(r"ConnectError|ConnectionError|Timeout|NameResolution|LocalEntryNotFound", errors):
        return f"The hub could not be reached. Check the network. {retry(name)}"
    if re.search(r"RemoteProtocolError|Consistency check failed|IncompleteRead|ReadError", errors):
        return f"The connection to the hub broke. What has arrived is kept. {retry(name)}"
    return f"Fetching hf:{repo} failed ({last}). {retry(name)}"
