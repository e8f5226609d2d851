"""Stores that are plain folders of models: LM Studio, llama.cpp, GPT4All, Jan, and those of the settings."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from chat_app.models.installed import LocalModel, gguf_models
from chat_app.models.stores.machine import Machine, read_object, walk
from llama_core.loaders.gguf.shard_names import model_stem

# Files beside a model that see or hear for it; they are no models.
PROJECTOR = "mmproj"


def models_below(root: Path, prefix: str, title: str, *, by_folder: bool = False) -> Iterator[LocalModel]:
    """Every GGUF file and every safetensors folder below `root`.

    A model's name is `prefix` and its file's name without the ending; by_folder: its folder's path, where
    that holds no other model. It may always be called by its path below `root`.
    """
    files: list[Path] = []
    for folder, names in walk(root):
        found = [folder / name for name in names if name.lower().endswith(".gguf")]
        files += [path for path in found if path.is_file() and not path.name.lower().startswith(PROJECTOR)]
        if "config.json" in names and any(name.endswith(".safetensors") for name in names):
            below = folder.relative_to(root).as_posix()
            nbytes = sum(_size(folder / name) for name in names)
            yield LocalModel(prefix + (folder.name if below == "." else below), folder, nbytes, title)
    models = _grouped(root, files)
    in_folder = Counter(model.path.parent for model in models)
    for model in models:
        relative = model.path.relative_to(root)
        path = relative.parent / model_stem(relative.name)
        alone = by_folder and in_folder[model.path.parent] == 1 and relative.parent != Path()
        shown = relative.parent if alone else path if by_folder else Path(path.name)
        aliases = tuple(prefix + other.as_posix() for other in (path, relative, Path(relative.name)))
        yield replace(model, name=prefix + shown.as_posix(), origin=title, aliases=aliases)


def _grouped(root: Path, files: list[Path]) -> list[LocalModel]:
    try:
        return list(gguf_models(root, files))
    except OSError:  # one went away meanwhile: the rest one by one
        return [model for path in files if path.is_file() for model in gguf_models(root, [path])]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lm_studio(machine: Machine) -> Iterator[LocalModel]:
    """`PUBLISHER/NAME/FILE.gguf` below the folder that LM Studio's settings name, or its usual one."""
    for home in (machine.home / ".lmstudio", machine.unix_cache / "lm-studio"):
        chosen = None
        with contextlib.suppress(OSError, ValueError):  # never changed: the usual folder
            chosen = read_object(home / "settings.json").get("downloadsFolder")
        root = Path(chosen) if isinstance(chosen, str) and chosen else home / "models"
        yield from models_below(root, "lmstudio:", "LM Studio", by_folder=True)


def llama_cpp(machine: Machine) -> Iterator[LocalModel]:
    """What `llama-cli -hf OWNER/REPO:TAG` has fetched, all in one folder.

    `manifest=OWNER=REPO=TAG.json` tells which file has that name.
    """
    root = machine.folder("LLAMA_CACHE") or machine.cache / "llama.cpp"
    names: dict[str, str] = {}
    for path in sorted(root.glob("manifest=*=*=*.json")):
        _, owner, repo, tag = path.stem.split("=", 3)
        try:
            file = read_object(path).get("ggufFile")
        except (OSError, ValueError):
            continue  # the file has a name without it
        if isinstance(file, dict) and isinstance(file.get("rfilename"), str):
            names[f"{owner}_{repo}_{file['rfilename']}".replace("/", "_")] = f"llama.cpp:{owner}/{repo}:{tag}"
    for model in models_below(root, "llama.cpp:", "llama.cpp"):
        shown = names.get(model.path.name)
        yield replace(model, name=shown, aliases=(*model.aliases, model.name)) if shown else model


def gpt4all(machine: Machine) -> Iterator[LocalModel]:
    """The app's folder, and that of its Python package."""
    for root in (machine.local_data / "nomic.ai" / "GPT4All", machine.home / ".cache" / "gpt4all"):
        yield from models_below(root, "gpt4all:", "GPT4All")


def jan(machine: Machine) -> Iterator[LocalModel]:
    """`ID/model.gguf` below Jan's data folder; an ID may have slashes."""
    data = (machine.roaming_data / "Jan" / "data", machine.home / ".config" / "Jan" / "data")
    for folder in (*data, machine.home / "jan"):
        for root in (folder / "llamacpp" / "models", folder / "models"):
            yield from models_below(root, "jan:", "Jan", by_folder=True)


def chosen_folders(folders: Iterable[str], machine: Machine) -> Iterator[LocalModel]:
    """The models in the folders that the setting `model_folders` names, by their files' names."""
    for text in folders:
        root = machine.home / text[2:] if text.startswith("~/") else Path(text)
        yield from models_below(root, "", str(root))
