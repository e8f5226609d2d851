"""`hf:OWNER/REPO[/FILE]`: models from a Hugging Face hub, through the optional package `huggingface_hub`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from chat_app.config.paths import ensure_dir, get_paths
from chat_app.models.catalogue import HUB_PREFIX
from chat_app.models.download.child_process import run_child
from chat_app.models.download.errors import DownloadError, retry
from chat_app.models.download.file_hash import CHUNK, compute_sha256
from chat_app.models.download.files import check_space, place
from chat_app.models.download.hub_child import NOT_INSTALLED, UNCLEAR
from llama_core.own_module import module_command, module_environment

NAME = re.compile(r"^[\w.-]+$")


def split_name(name: str) -> tuple[str, str | None]:
    """("OWNER/REPO", "FILE" or None) of hf:OWNER/REPO[/FILE]. Raises DownloadError when it is malformed."""
    parts = name.removeprefix(HUB_PREFIX).split("/")
    if len(parts) < 2 or not all(NAME.match(part) and part.strip(".") for part in parts):
        raise DownloadError(f"{name!r} is not of the form hf:OWNER/REPO or hf:OWNER/REPO/FILE.")
    return "/".join(parts[:2]), "/".join(parts[2:]) or None


def pull_from_hub(
    name: str,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Path:
    """Fetch into `folder`, verify size and hash of every file, then move into the models folder.

    Returns the GGUF file, or the folder of a safetensors model. Raises DownloadError, ChildStopped, OSError.
    """
    repo, wanted = split_name(name)
    staged = folder / "hub"
    staged.mkdir()
    files: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if line.startswith("Files "):
            files.extend(json.loads(line.removeprefix("Files ")))
            check_space(folder, sum(int(file["size"] or 0) for file in files), name)

    def watch() -> bool:
        if on_progress is not None and files:
            total = sum(int(file["size"] or 0) for file in files)
            on_progress(min(_bytes_in(staged), total), total)
        return cancelled() if cancelled is not None else False

    command = module_command(
        "chat_app.models.download.hub_child", repo, str(staged), *([wanted] if wanted else [])
    )
    environment = {**module_environment(), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONIOENCODING": "utf-8"}
    errors = folder / "hub-errors.txt"
    code = run_child(command, environment=environment, stderr_path=errors, on_line=on_line, cancelled=watch)
    if code != 0:
        raise DownloadError(explain(code, errors.read_text(encoding="utf-8", errors="replace"), repo, name))
    for file in files:
        _verify(staged / _inside(file["name"]), file, name, cancelled)
    return _place_all(staged, [str(file["name"]) for file in files], repo)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # renamed by the child between listing and looking
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
        raise DownloadError(
            f"What arrived as {path.name} is not what the hub promised (size or hash differs). "
            f"It was deleted. {retry(name)}"
        )
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _place_all(staged: Path, names: list[str], repo: str) -> Path:
    """Move every file; last the one by which the app finds the model (config.json, or a first piece)."""
    root = ensure_dir(get_paths().models / "hf" / repo)
    key = "config.json" if "config.json" in names else min(names)
    for file_name in sorted(names, key=lambda file_name: file_name == key):
        target = root / _inside(file_name)
        ensure_dir(target.parent)
        place(staged / _inside(file_name), target)
    return root if key == "config.json" else root / key


def explain(code: int, errors: str, repo: str, name: str) -> str:
    """A failed child's exit code and stderr in plain words."""
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")[:400]
    if code == NOT_INSTALLED:
        return (
            "Fetching from a hub needs the package huggingface_hub, which is not installed. "
            f"Install llama-chat with its extra `hub` (llama-chat[hub]). {retry(name)}"
        )
    if code == UNCLEAR:
        return f"Nothing of hf:{repo} was fetched: {last}. As in: llama-chat models pull hf:{repo}/FILE"
    if re.search(r"RepositoryNotFound|RevisionNotFound|GatedRepo|401|403|404", errors):
        return (
            f"The hub has no repository {repo} that you may read "
            f"(a private or gated one needs `hf auth login`). {retry(name)}"
        )
    if re.search(r"ConnectError|ConnectionError|Timeout|NameResolution|LocalEntryNotFound", errors):
        return f"The hub could not be reached. Check the network. {retry(name)}"
    return f"Fetching hf:{repo} failed ({last}). {retry(name)}"
