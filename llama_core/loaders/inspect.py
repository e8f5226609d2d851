"""What a model file holds, told without reading a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import read_model
from llama_core.loaders.cursor import Skipped
from llama_core.loaders.detect import FileFormat, find_model
from llama_core.loaders.gguf.file import TEMPLATE_KEY, model_of
from llama_core.loaders.gguf.split import read_shards
from llama_core.loaders.parts import ModelParts
from llama_core.quant.table import BlockFormat

MAX_LISTED = 16

# What the backends would need for a model: `memory_needed.memory_needed`. The loaders know no backend.
Memory = Callable[[ModelConfig, Mapping[str, Tensor]], dict[str, Any]]
Row = tuple[str, tuple[int, ...], BlockFormat, int]


def inspect(path: Path, memory: Memory | None = None) -> dict[str, Any]:
    """A report of plain JSON values: format, config, tensors, types, tokenizer, chat template, and what
    `memory` says of the memory needed.

    A sound GGUF file of a model that does not run here is reported as well: `runs` is false and `problem`
    says why. Raises ModelFormatError for broken files, UnsupportedModelError for other formats.
    """
    place, found = find_model(Path(path))
    if found is FileFormat.GGUF:
        return _inspect_gguf(place, memory)
    model = read_model(place)
    more = {
        "tokenizer": _tokenizer_of(model),
        "chat_template": _template_of(model),
        "metadata": _plain(model.metadata),
    }
    return _report(model.path, found.value, model.file_bytes, model, _rows(model), memory, more)


def _inspect_gguf(path: Path, memory: Memory | None) -> dict[str, Any]:
    headers = read_shards(path, skim=True)
    metadata = headers[0].metadata
    model, problem = None, None
    try:
        model = model_of(path, headers)
    except UnsupportedModelError as error:
        problem = f"{error.where}: {error.problem}"
    rows = [(t.name, t.shape, t.fmt, t.nbytes) for header in headers for t in header.tensors.values()]
    more = {
        "version": headers[0].version,
        "parts": len(headers),
        "problem": problem,
        "architecture": metadata.get("general.architecture"),
        "name": metadata.get("general.name"),
        "tokenizer": _gguf_tokenizer(metadata),
        "chat_template": metadata.get(TEMPLATE_KEY),
        "metadata": _plain({key: value for key, value in metadata.items() if key != TEMPLATE_KEY}),
    }
    file_bytes = sum(header.file.size for header in headers)
    return _report(path, "gguf", file_bytes, model, rows, memory, more)


def _report(
    path: Path,
    file_format: str,
    file_bytes: int,
    model: ModelParts | None,
    rows: list[Row],
    memory: Memory | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    config = None if model is None else model.config
    report: dict[str, Any] = {
        "path": str(path),
        "format": file_format,
        "file_bytes": file_bytes,
        "runs": config is not None,
        "architecture": None if config is None else config.architecture,
        "name": None if config is None else config.name,
        "parameters": sum(math.prod(shape) for _, shape, _, _ in rows),
        "config": None if config is None else _plain(asdict(config)),
        "memory": None if model is None or memory is None else memory(model.config, model.tensors),
        "types": _types(rows),
    }
    report |= {key: value for key, value in more.items() if value is not None}
    report["tensors"] = [
        {"name": name, "shape": list(shape), "type": fmt.name, "bytes": nbytes}
        for name, shape, fmt, nbytes in rows
    ]
    return report


def _types(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Tensors, values and bytes by type, the largest first."""
    types: dict[str, dict[str, Any]] = {}
    for _, shape, fmt, nbytes in rows:
        entry = types.setdefault(fmt.name, {"type": fmt.name, "tensors": 0, "values": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["values"] += math.prod(shape)
        entry["bytes"] += nbytes
    return sorted(types.values(), key=lambda entry: -int(entry["bytes"]))


def _rows(model: ModelParts) -> list[Row]:
    return [(t.name, t.shape, t.fmt, t.nbytes) for t in model.tensors.values()]


def _gguf_tokenizer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "tokenizer.ggml."
    tokens = metadata.get(prefix + "tokens")
    found: dict[str, Any] = {"tokens": len(tokens) if isinstance(tokens, list | Skipped) else None}
    for key, name in (("model", "kind"), ("pre", "pre_tokenizer")):
        found[name] = metadata.get(prefix + key)
    for key in ("bos_token_id", "eos_token_id", "add_bos_token", "add_space_prefix"):
        found[key] = metadata.get(prefix + key)
    return {key: value for key, value in found.items() if value is not None}


def _tokenizer_of(model: ModelParts) -> dict[str, Any]:
    """The tokenizer that stands in a file of its own, as a start would find it: the file is read for it. What
    is wrong with it is told, not raised: the model can be looked at without."""
    file = model.tokenizer_file
    if file is None or not file.is_file():
        return {} if file is None else {"file": file.name, "present": False}
    # Here, because a GGUF file needs no tokenizer to be told about, and its libraries take long to import.
    from llama_core.loaders.tokenizer_files import load_tokenizer

    found: dict[str, Any] = {"file": file.name, "present": True}
    try:
        tokenizer, _ = load_tokenizer(model, None)
    except ModelFormatError as error:
        return found | {"problem": f"{error.where}: {error.problem}"}
    found |= {
        "tokens": tokenizer.vocab_size,
        "kind": tokenizer.kind,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "add_bos_token": tokenizer.add_bos,
        "end_token_ids": sorted(tokenizer.stop_ids),
    }
    return {key: value for key, value in found.items() if value is not None}


def _template_of(model: ModelParts) -> str | None:
    """The chat template of a Hugging Face folder, also where its tokenizer is none that runs here."""
    if model.file_format != "safetensors":
        return None
    from llama_core.tokenizers.from_files import read_json
    from llama_core.tokenizers.huggingface.folder import read_folder

    try:
        _, template = read_folder(model.path, read_json)
    except ModelFormatError:  # a broken file beside the tokenizer's, which its own `problem` names
        return None
    return template


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata for reading: long arrays as their lengths, NumPy's numbers as Python's."""
    plain: dict[str, Any] = {}
    for key, value in metadata.items():
        values = value.tolist() if isinstance(value, np.ndarray) else value
        values = list(values) if isinstance(values, tuple) else values
        if isinstance(values, list | Skipped) and len(values) > MAX_LISTED:
            values = f"{len(values):,} values"
        plain[key] = values
    return plain
