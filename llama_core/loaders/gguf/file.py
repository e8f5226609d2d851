"""A GGUF file, or the several files of one model, to `ModelParts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError
from llama_core.loaders.gguf.config import LONG_FACTORS, SHORT_FACTORS, read_config
from llama_core.loaders.gguf.header import GGUFHeader
from llama_core.loaders.gguf.split import read_shards
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.tensors import translate

# Frequencies that some old converters wrote out; every reader computes them anyway.
IGNORED_SUFFIXES = (".attn_rot_embd.weight", ".attn_rot_embd", "rope.freqs")
TEMPLATE_KEY = "tokenizer.chat_template"


def read_gguf(path: Path) -> ModelParts:
    """The GGUF model at `path`, which may be any part of a split one; its tensors stay in the file.

    Raises ModelFormatError (what is broken) or UnsupportedModelError (what would work).
    """
    return model_of(path, read_shards(path))


def model_of(path: Path, headers: Sequence[GGUFHeader]) -> ModelParts:
    """The model that a file's headers describe; errors as `read_gguf`."""
    config = config_of(headers)
    theirs = {
        info.name: Tensor(info.name, info.shape, info.fmt, header.raw(info))
        for header in headers
        for info in header.tensors.values()
    }
    tensors = translate(path, config, "gguf", theirs, ignored=IGNORED_SUFFIXES)
    file_bytes = sum(header.file.size for header in headers)
    return ModelParts(path, "gguf", file_bytes, config, tensors, headers[0].metadata)


def chat_template_of(path: Path, metadata: Mapping[str, Any]) -> str | None:
    """The template in the metadata. Raises ModelFormatError where it is no string."""
    template = metadata.get(TEMPLATE_KEY)
    if template is not None and not isinstance(template, str):
        raise ModelFormatError(path, f"metadata key {TEMPLATE_KEY}", "is no string")
    return template or None


def config_of(headers: Sequence[GGUFHeader]) -> ModelConfig:
    """The config that the first part's metadata and all parts' tensors tell."""
    shapes = {info.name: info.shape for header in headers for info in header.tensors.values()}
    vectors = {
        info.name: tuple(Tensor(info.name, info.shape, info.fmt, header.raw(info)).to_float32().tolist())
        for header in headers
        for info in header.tensors.values()
        if info.name in (SHORT_FACTORS, LONG_FACTORS) and len(info.shape) == 1
    }
    return read_config(headers[0].path, headers[0].metadata, shapes, vectors)
