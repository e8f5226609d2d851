"""What a batch's result belongs to: the request it answers, the model that answered and how it computed, the
line it is about.

A result carries these under `x`, so that another run knows what it may take for done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_app.config.endpoints import Endpoint
from chat_app.models.catalogue import ModelNotFound, catalogue_entry, known_sha256, resolve_model

# The files of a model's folder that have a say in its replies.
_MODEL_SUFFIXES = (".gguf", ".jinja", ".json", ".model", ".safetensors")
# What has a say beside a file of weights alone.
_BESIDE = {".bin": ("tokenizer.bin",), ".npz": ("config.json", "tokenizer.model.np")}


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model's name, for people, and its SHA-256, in hex: both are what transcripts record. others: the
    SHA-256 of whatever else may answer the same batch."""

    name: str
    sha256: str
    others: frozenset[str] = frozenset()

    def made(self, sha256: str) -> bool:
        """Whether an answer of this SHA-256 is one of this run's."""
        return sha256 == self.sha256 or sha256 in self.others


@dataclass(frozen=True, slots=True)
class Computation:
    """What decides a reply's tokens beside request, model and seed: the backend, as the engine names it, the
    cache's type, and the context's size in tokens, which ends replies that nothing else ends."""

    backend: str
    kv: str
    ctx_size: int

    @property
    def way(self) -> tuple[str, str]:
        """(backend, cache type) without the instructions: the compiled one gives the same bits with all."""
        return backend_kind(self.backend), self.kv


def backend_kind(backend: str) -> str:
    """ "jit" or "numpy", of the name that an engine gives its backend."""
    return backend.partition(" ")[0]


def server_identity(endpoint: Endpoint, model: str) -> ModelIdentity:
    """Of a server's model: nobody can hash its file, so its address and its name stand for it."""
    return ModelIdentity(model, _digest(f"{endpoint.url}#{model}"))


def model_identity(name: str, tokenizer: Path | None = None) -> ModelIdentity:
    """Of the model that `-m` names, with the tokenizer file given beside it, if one is; without loading it,
    or fetching it where only the catalogue knows it.

    A large file is read once; its hash is remembered while size and time stay. Raises ModelNotFound, OSError.
    """
    try:
        path = resolve_model(name)
    except ModelNotFound as error:
        entry = catalogue_entry(error.name)
        if entry is None:
            raise
        path, hashes = entry.path, [(entry.model_sha256, entry.path.name)]
    else:
        if path.suffix == ".json":  # a folder's config or index stands for the folder
            path = path.parent
        hashes = [(_file_sha256(file), file.name) for file in _model_files(path)]
    if tokenizer is not None:
        hashes.append((_file_sha256(tokenizer), tokenizer.name))
    called = path.name if path.is_dir() else path.stem
    if len(hashes) == 1:
        return ModelIdentity(called, hashes[0][0])
    # What `sha256sum` prints of all of them, hashed once more.
    return ModelIdentity(called, _digest("".join(f"{sha256}  {name}\n" for sha256, name in hashes)))


def _model_files(path: Path) -> list[Path]:
    from llama_core.loaders.gguf.shard_names import files_of_model

    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in _MODEL_SUFFIXES and file.is_file())
    beside = [path.with_name(name) for name in _BESIDE.get(path.suffix, ())]
    shards = [path.with_name(name) for name in files_of_model(path.name)]
    return shards + [file for file in beside if file.is_file()]


def _file_sha256(path: Path) -> str:
    from chat_app.models.download.file_hash import file_sha256

    return known_sha256(path) or file_sha256(path)


def request_sha256(record: Mapping[str, Any]) -> str:
    """Of what a request line asks for: its url and body, whatever the order of keys and the white space."""
    asked = {"url": record.get("url"), "body": record.get("body")}
    return _digest(json.dumps(asked, sort_keys=True, separators=(",", ":")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
