"""A model on the node of a cluster: the same file by its hash, found there or fetched."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.batch.identity import ModelIdentity, model_identity
from chat_app.config.paths import ensure_dir, get_paths
from chat_app.files.process_lock import ProcessLock
from chat_app.models.catalogue import ModelNotFound, resolve_model
from chat_app.text.errors import SentenceError

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

PIECE_BYTES = 32 << 20
LOCK_S = 3600.0


@dataclass(frozen=True, slots=True)
class SharedModel:
    """The model as the batch's machine has it. nbytes and sha256 are of the file; sha256 is "" for a folder,
    or for a model of several files, which is not fetched."""

    name: str
    path: Path
    identity: ModelIdentity
    nbytes: int = 0
    sha256: str = ""

    @classmethod
    def of(cls, path: Path, settings: Settings, identity: ModelIdentity) -> SharedModel:
        """The model at `path`. Raises OSError."""
        from chat_app.models.download.file_hash import file_sha256

        alone = path.is_file() and settings.tokenizer is None
        sha256 = file_sha256(path) if alone else ""
        if sha256 != identity.sha256:
            return cls(path.name, path, identity)
        return cls(path.name, path, identity, path.stat().st_size, sha256)


class FileSource:
    """Gives out the model's file where it is, piece by piece: an actor on the batch's machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, offset: int) -> bytes:
        """PIECE_BYTES from `offset` on, fewer at the end. Raises OSError."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)


def file_source(ray: Any, shared: SharedModel) -> Any:
    """A handle of a `FileSource` beside this process, which nodes may ask."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(FileSource).options(scheduling_strategy=here).remote(shared.path)


def model_on_node(shared: SharedModel, settings: Settings, source: Any) -> Path:
    """The model's file on this machine, fetched from `source` where it is not here.

    Raises SentenceError where it is not here and cannot be fetched.
    """
    for name in (str(shared.path), settings.model):
        if _is_here(name, settings, shared):
            return resolve_model(name)
    if not shared.sha256:
        raise SentenceError(f"{shared.name} is not on the node; one of several files is not fetched.")
    target = get_paths().models / f"{shared.sha256[:16]}-{shared.name}"
    ensure_dir(target.parent)
    lock = ProcessLock(target.with_name(target.name + ".lock"))
    if not lock.acquire(LOCK_S):  # another engine of this node fetches it
        raise SentenceError(f"{shared.name} was being fetched on the node for too long.")
    try:
        if not _is_here(str(target), settings, shared):
            _fetch(shared, source, target)
    finally:
        lock.release()
    return target


def _is_here(name: str, settings: Settings, shared: SharedModel) -> bool:
    try:
        return model_identity(name, settings.tokenizer).sha256 == shared.identity.sha256 and bool(
            resolve_model(name)
        )
    except (ModelNotFound, OSError):
        return False


def _fetch(shared: SharedModel, source: Any, target: Path) -> None:
    """The file takes its place when all of it is there and has its hash."""
    import ray

    part, digest, offset = target.with_name(target.name + ".part"), hashlib.sha256(), 0
    with part.open("wb") as file:
        while offset < shared.nbytes:
            piece: bytes = ray.get(source.read.remote(offset))
            if not piece:
                break
            file.write(piece)
            digest.update(piece)
            offset += len(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != shared.sha256:
        part.unlink()
        raise SentenceError(f"{shared.name} changed while it was fetched.")
    os.replace(part, target)
