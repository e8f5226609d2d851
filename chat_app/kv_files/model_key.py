"""Which keys and values are whose: one key for all that their bits depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from chat_app.models.download.file_hash import file_sha256, remembered_sha256
from llama_core.engine.text import TextEngine
from llama_core.loaders.gguf.shard_names import files_of_model
from llama_core.own_code import sources_digest


class ModelKey:
    """The key of a model that is loaded, known once its file's hash is.

    The hash is of the file as it is when it is asked for; it counts only while the file is the one that was
    loaded.
    """

    def __init__(self, engine: TextEngine, path: Path) -> None:
        self._files = _files(path)
        self._loaded = _stamps(self._files)
        config = engine.model.config
        scaled = config.rope_scaling is not None
        self._settings = [
            engine.model.arithmetic,
            engine.ctx_size if scaled else 0,  # LongRoPE's factors depend on it
            sources_digest(),
        ]

    def compute(self) -> str:
        """64 hex digits; "" where the file is another one now. Takes long for a file that was never hashed.
        Raises OSError."""
        return self._of([file_sha256(path) for path in self._files])

    def known(self) -> str:
        """The same without reading the model: "" where its hash is not known. Raises OSError."""
        digests = [remembered_sha256(path) for path in self._files]
        return self._of([one for one in digests if one is not None]) if all(digests) else ""

    def _of(self, digests: list[str]) -> str:
        if not digests or _stamps(self._files) != self._loaded:
            return ""
        return hashlib.sha256(json.dumps([digests, *self._settings]).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    """All files of a model: its parts, or those of its folder that may tell something of it."""
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.suffix in (".safetensors", ".json", ".npz"))
    return [path.with_name(name) for name in files_of_model(path.name)]


def _stamps(files: list[Path]) -> list[tuple[int, int, int]]:
    """What changes with a file. Raises OSError."""
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in (path.stat() for path in files)]
