"""What stands in the models folder: catalogue files, and hub models under hf/OWNER/REPO/.

A GGUF model may be cut into several files; it is one model all the same, with one name, and is there only
when all of them are. Nothing here uses the network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llama_core.loaders.gguf.shard_names import TYPE_IN_NAME, find_in, group_by_model, model_stem

HUB_PREFIX = "hf:"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine.

    path: what to open, a file (the first part that is here) or a folder. nbytes: of all its files. origin:
    "downloaded", the installed package that holds it, or the program in whose store it lies. aliases: further
    names. files: those that are here, empty for a folder; n_missing: how many others belong to it. problem:
    what else keeps it from being opened. hint: what its store says of its size and type.
    """

    name: str
    path: Path
    nbytes: int
    origin: str = "downloaded"
    aliases: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    n_missing: int = 0
    problem: str = ""
    hint: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here."""
        return not self.n_missing and not self.problem

    @property
    def source(self) -> str:
        """Where it is from, and what it lacks, for people."""
        if self.problem:
            return f"{self.origin}, but {self.problem}"
        if not self.n_missing:
            return self.origin
        return f"{self.origin}, but {self.n_missing} of {len(self.files) + self.n_missing} files missing"

    def is_called(self, name: str) -> bool:
        """Whether this is its name or one of its aliases."""
        return name == self.name or name in self.aliases

    def delete(self, root: Path) -> list[Path]:
        """Remove its files, and folders below `root` that this leaves empty; returns what was removed."""
        if not self.files:
            shutil.rmtree(self.path)
            return [self.path]
        for file in self.files:
            os.unlink(file)
        for folder in self.path.parents:
            if folder == root or any(folder.iterdir()):
                break
            folder.rmdir()
        return list(self.files)


def downloaded(root: Path, catalogue_names: Mapping[str, str]) -> Iterator[LocalModel]:
    """Every model in the models folder `root`. catalogue_names: the names of known files."""
    if not root.is_dir():
        return
    for model in gguf_models(root, sorted(root.glob("*.gguf"))):
        known = catalogue_names.get(model.path.name)
        parts = tuple(file.stem for file in model.files)
        yield _named(model, known or model_stem(model.path.name), () if known else parts)
    for repo in sorted((root / "hf").glob("*/*")):
        if repo.is_dir() and not repo.name.startswith(".") and not repo.parent.name.startswith("."):
            yield from in_repository(repo, f"{HUB_PREFIX}{repo.parent.name}/{repo.name}")


def in_repository(repo: Path, hub_name: str) -> Iterator[LocalModel]:
    """The models of a hub repository in the folder `repo`. A GGUF model is called by any of its files; where
    it is the only one, by its repository as well, and by that and its type where no other has it."""
    models = list(gguf_models(repo, [path for path in repo.rglob("*.gguf") if path.is_file()]))
    types = [find_in(TYPE_IN_NAME, [model.path.name]) for model in models]
    for model, kind in zip(models, types, strict=True):
        names = tuple(f"{hub_name}/{file.relative_to(repo).as_posix()}" for file in model.files)
        by_type = (f"{hub_name}:{kind}", f"{hub_name}:{kind.lower()}") if types.count(kind) == 1 else ()
        yield _named(model, hub_name if len(models) == 1 else names[0], (*names, *by_type))
    if (repo / "config.json").is_file():
        nbytes = sum(path.stat().st_size for path in repo.rglob("*") if path.is_file())
        yield LocalModel(hub_name, repo, nbytes)


def gguf_models(root: Path, paths: list[Path]) -> Iterator[LocalModel]:
    """The models that files below `root` form, without names."""
    here = {path.relative_to(root).as_posix(): path for path in paths}
    for names in group_by_model(here):
        files = tuple(here[name] for name in names if name in here)
        nbytes = sum(file.stat().st_size for file in files)
        yield LocalModel("", files[0], nbytes, files=files, n_missing=len(names) - len(files))


def _named(model: LocalModel, name: str, aliases: tuple[str, ...]) -> LocalModel:
    return replace(model, name=name, aliases=aliases)
