"""What a model file holds, told without building a tokenizer or reading a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.config import ModelConfig
from llama_core.errors import UnsupportedModelError
from llama_core.loaders import read_model
from llama_core.loaders.detect import FileFormat, find_model
from llama_core.loaders.gguf import TEMPLATE_KEY, model_of
from llama_core.loaders.gguf_split import read_shards
from llama_core.loaders.json_files import read_object
from llama_core.loaders.parts import ModelParts
from llama_core.quant.table import BlockFormat

# The context that a chat starts with where the model allows it; what the KV cache is estimated for.
CHAT_CONTEXT = 4096
# Formats that the compiled backend keeps as they are; it packs every other matrix to 8-bit blocks.
KEPT_BY_JIT = ("Q4_0", "Q4_1", "Q8_0")
PACKED_BYTES_PER_VALUE = 34 / 32
MAX_LISTED = 16

Row = tuple[str, tuple[int, ...], BlockFormat, int]


def inspect(path: Path) -> dict[str, Any]:
    """A report of plain JSON values: format, config, tensors, types, tokenizer, chat template, memory.

    A sound GGUF file of a model that does not run here is reported as well: `runs` is false and `problem`
    says why. Raises ModelFormatError for broken files, UnsupportedModelError for other formats.
    """
    place, found = find_model(Path(path))
    if found is FileFormat.GGUF:
        return _inspect_gguf(place)
    model = read_model(place)
    tokenizer, template = _files_beside(model)
    more = {"tokenizer": tokenizer, "chat_template": template, "metadata": _plain(model.metadata)}
    return _report(model.path, found.value, model.file_bytes, model.config, _rows(model), more)


def _inspect_gguf(path: Path) -> dict[str, Any]:
    headers = read_shards(path)
    metadata = headers[0].metadata
    config, problem = None, None
    try:
        config = model_of(path, headers).config
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
    return _report(path, "gguf", sum(header.data.size for header in headers), config, rows, more)


def _report(
    path: Path,
    file_format: str,
    file_bytes: int,
    config: ModelConfig | None,
    rows: list[Row],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "path": str(path),
        "format": file_format,
        "file_bytes": file_bytes,
        "runs": config is not None,
        "architecture": None if config is None else config.architecture,
        "name": None if config is None else config.name,
        "parameters": sum(math.prod(shape) for _, shape, _, _ in rows),
        "config": None if config is None else asdict(config),
        "memory": None if config is None else memory_needed(config, rows),
        "types": _types(rows),
    }
    report |= {key: value for key, value in more.items() if value is not None}
    report["tensors"] = [
        {"name": name, "shape": list(shape), "type": fmt.name, "bytes": nbytes}
        for name, shape, fmt, nbytes in rows
    ]
    return report


def memory_needed(config: ModelConfig, rows: Iterable[Row]) -> dict[str, Any]:
    """Bytes that each backend keeps: weights, and a float32 KV cache of a chat's usual length."""
    as_float32 = packed = 0
    for _, shape, fmt, nbytes in rows:
        values = math.prod(shape)
        as_float32 += 4 * values
        if len(shape) == 1:
            packed += 4 * values
        else:
            packed += nbytes if fmt.name in KEPT_BY_JIT else int(values * PACKED_BYTES_PER_VALUE)
    context = min(config.max_seq_len, CHAT_CONTEXT)
    kv_bytes = context * config.n_layers * 2 * config.kv_dim * 4
    return {
        backend: {
            "weights_bytes": weights,
            "kv_bytes": kv_bytes,
            "kv_context": context,
            "bytes": weights + kv_bytes,
        }
        for backend, weights in (("numpy", as_float32), ("jit", packed))
    }


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
    found = {"tokens": len(tokens) if isinstance(tokens, list) else None}
    for key, name in (("model", "kind"), ("pre", "pre_tokenizer")):
        found[name] = metadata.get(prefix + key)
    for key in ("bos_token_id", "eos_token_id", "add_bos_token", "add_space_prefix"):
        found[key] = metadata.get(prefix + key)
    return {key: value for key, value in found.items() if value is not None}


def _files_beside(model: ModelParts) -> tuple[dict[str, Any], str | None]:
    """The tokenizer's file and, in a Hugging Face folder, the chat template."""
    file = model.tokenizer_file
    tokenizer = {} if file is None else {"file": file.name, "present": file.is_file()}
    if model.file_format != "safetensors":
        return tokenizer, None
    template_file, config_file = model.path / "chat_template.jinja", model.path / "tokenizer_config.json"
    if template_file.is_file():
        return tokenizer, template_file.read_text("utf-8", "replace")
    template = read_object(config_file).get("chat_template") if config_file.is_file() else None
    return tokenizer, template if isinstance(template, str) else None


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata for reading: long arrays as their lengths, NumPy's numbers as Python's."""
    plain: dict[str, Any] = {}
    for key, value in metadata.items():
        values = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(values, list) and len(values) > MAX_LISTED:
            values = f"{len(values):,} values"
        plain[key] = values
    return plain
