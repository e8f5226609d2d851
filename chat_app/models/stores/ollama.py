"""ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG`, each a small JSON file that names blobs by hash.

The model is the layer of type `application/vnd.ollama.image.model`, a GGUF file called `blobs/sha256-HEX`.
The config blob tells size and type. ollama's own template and parameters are layers beside it; they are not
read, because the file has its own. Source: the image manifest of the OCI and ollama's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chat_app.models.installed import LocalModel
from chat_app.models.stores.machine import Machine, read_object, walk

TITLE = "ollama"
MODEL_LAYER = "application/vnd.ollama.image.model"
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", ":latest"


def models(machine: Machine) -> Iterator[LocalModel]:
    """Every model that ollama lists, under the name that it shows."""
    chosen = machine.folder("OLLAMA_MODELS")
    # ollama as a service of Linux has a user of its own, and its folder.
    usual = (machine.home / ".ollama" / "models", machine.shared / "ollama" / ".ollama" / "models")
    for root in (chosen,) if chosen else usual:
        for folder, names in walk(root / "manifests"):
            parts = folder.relative_to(root / "manifests").parts
            if len(parts) == 3:
                yield from (_model(root, folder / tag, _shown(*parts, tag)) for tag in names if tag[0] != ".")


def _shown(host: str, namespace: str, model: str, tag: str) -> str:
    where = [host, namespace, model]
    if host == DEFAULT_HOST:
        where = where[2:] if namespace == DEFAULT_NAMESPACE else where[1:]
    return f"ollama:{'/'.join(where)}:{tag}"


def _model(root: Path, manifest: Path, name: str) -> LocalModel:
    aliases = (name.removesuffix(DEFAULT_TAG),) if name.endswith(DEFAULT_TAG) else ()
    try:
        content = read_object(manifest)
        path, promised = _blob(root, content)
    except ValueError as error:
        return LocalModel(name, manifest, 0, TITLE, aliases, problem=f"its manifest cannot be used: {error}")
    except OSError as error:
        problem = f"its manifest cannot be read: {error.strerror}"
        return LocalModel(name, manifest, 0, TITLE, aliases, problem=problem)
    try:
        nbytes, problem = path.stat().st_size, ""
    except OSError as error:
        nbytes, problem = 0, f"its file cannot be read: {error.strerror}"
    if not problem and isinstance(promised, int) and promised != nbytes:
        problem = f"its file has {nbytes:,} bytes of {promised:,}"
    hint = _hint(root, content)
    return LocalModel(name, path, nbytes, TITLE, aliases, files=(path,), problem=problem, hint=hint)


def _blob(root: Path, manifest: dict[str, Any]) -> tuple[Path, Any]:
    """The model's file and its promised size. Raises ValueError with a phrase."""
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("mediaType") == MODEL_LAYER:
            return _path(root, layer), layer.get("size")
    raise ValueError("it names no model on this machine")


def _path(root: Path, layer: dict[str, Any]) -> Path:
    found = DIGEST.fullmatch(str(layer.get("digest")))
    if found is None:
        raise ValueError("it names a blob by no SHA-256")
    return root / "blobs" / f"sha256-{found[1]}"


def _hint(root: Path, manifest: dict[str, Any]) -> str:
    """ "1.7B Q4_K_M" from the config blob; empty where that is missing, since the file can tell as well."""
    config = manifest.get("config")
    try:
        told = read_object(_path(root, config)) if isinstance(config, dict) else {}
    except (OSError, ValueError):
        return ""
    return " ".join(str(told[key])[:32] for key in ("model_type", "file_type") if key in told)
