"""The cache of Hugging Face's libraries: `models--OWNER--REPO/snapshots/REVISION/FILE`, links to blobs.

`refs/main` names the revision. Models have the names that the hub gives them, whoever fetched them. Source:
the documentation of huggingface_hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chat_app.models.installed import HUB_PREFIX, LocalModel, in_repository
from chat_app.models.stores.machine import Machine, read_object
from llama_core.ordinary_files import read_ordinary

TITLE = "Hugging Face cache"
FOLDER_PREFIX = "models--"
INDEX = "model.safetensors.index.json"


def models(machine: Machine) -> Iterator[LocalModel]:
    """Every GGUF and every safetensors model in the cache; what else it holds is passed over."""
    for folder in _entries(_root(machine)):
        parts = folder.name.removeprefix(FOLDER_PREFIX).split("--", 1)
        if not folder.name.startswith(FOLDER_PREFIX) or len(parts) != 2:
            continue
        snapshot = _snapshot(folder)
        if snapshot is None:
            continue
        name = f"{HUB_PREFIX}{parts[0]}/{parts[1]}"
        try:
            found = list(in_repository(snapshot, name))
            broken = [path for path in sorted(snapshot.rglob("*.gguf")) if not path.is_file()]
        except OSError:
            continue
        for model in found:
            if model.files:
                yield replace(model, origin=TITLE)
            elif any(snapshot.glob("*.safetensors")) or (snapshot / INDEX).is_file():
                yield replace(model, origin=TITLE, problem=_lacks(snapshot))
        for path in broken:
            relative = path.relative_to(snapshot).as_posix()
            yield LocalModel(f"{name}/{relative}", path, 0, TITLE, problem="its file is missing")


def _root(machine: Machine) -> Path:
    chosen = machine.folder("HF_HUB_CACHE") or machine.folder("HUGGINGFACE_HUB_CACHE")
    home = machine.folder("HF_HOME") or machine.unix_cache / "huggingface"
    return chosen or home / "hub"


def _snapshot(folder: Path) -> Path | None:
    """The folder of the revision that `main` means, or the newest there is."""
    try:
        revision = read_ordinary(folder / "refs" / "main", 100).decode("ascii", "replace").strip()
        # A revision is a name, never a way out of the folder.
        if revision.isalnum() and (folder / "snapshots" / revision).is_dir():
            return folder / "snapshots" / revision
    except OSError:
        pass  # fetched by revision: no reference was written
    dated = []
    for snapshot in _entries(folder / "snapshots"):
        try:
            dated.append((snapshot.stat().st_mtime_ns, snapshot))
        except OSError:
            continue
    return max(dated)[1] if dated else None


def _entries(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted; none where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _lacks(snapshot: Path) -> str:
    """What is wrong with a folder of safetensors, or an empty text."""
    try:
        weights = read_object(snapshot / INDEX).get("weight_map")
    except FileNotFoundError:
        whole = all(path.is_file() for path in snapshot.glob("*.safetensors"))
        return "" if whole else "a file of it is missing"
    except OSError as error:
        return f"{INDEX} cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    names = {str(name) for name in weights.values()} if isinstance(weights, dict) else set()
    missing = sum(not (snapshot / name).is_file() for name in names)
    return f"{missing} of its {len(names)} files are missing" if missing else ""
