"""The header of llama2.c's `.bin` files (drawn in `llama2c.py`): how they are told, and their seven sizes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import Cursor

MAGIC = struct.pack("<I", 0x616B3432)
SIZES = struct.Struct("<7i")
HEADER_BYTES = 256


@dataclass(frozen=True, slots=True)
class Header:
    """version: 0 for legacy files; group_size: 0 unless weights are int8; start: where the data begins."""

    version: int
    config: ModelConfig
    group_size: int
    start: int


def looks_like_llama2c(data: bytes, n_bytes: int) -> bool:
    """Whether `data`, the start of a file of `n_bytes`, can be a llama2.c header."""
    if data.startswith(MAGIC):
        return True
    if len(data) < SIZES.size:
        return False
    dim, hidden, layers, heads, kv_heads, vocab, seq_len = SIZES.unpack_from(data)
    numbers = (dim, hidden, layers, heads, kv_heads, abs(vocab), seq_len)
    # A legacy file has no magic number: seven plausible sizes and an embedding that fits must do.
    return all(0 < n < 1 << 24 for n in numbers) and dim * abs(vocab) * 4 <= n_bytes and heads <= dim


def read_header(path: Path, cursor: Cursor) -> Header:
    """The sizes, checked one by one; the file's length is checked against them by the caller."""
    start = cursor.data[: len(MAGIC)]
    version = 0
    if start == MAGIC:
        cursor.position = len(MAGIC)
        version = cursor.scalar(struct.Struct("<i"), "version")
        if version not in (1, 2):
            raise UnsupportedModelError(
                path, "version", f"is {version}; legacy files and versions 1 and 2 are read"
            )
    cursor.need(SIZES.size, "the seven sizes")
    dim, hidden, layers, heads, kv_heads, vocab, seq_len = SIZES.unpack_from(cursor.data, cursor.position)
    cursor.position += SIZES.size
    shared, group_size = vocab > 0, 0
    if version:
        flag = cursor.scalar(struct.Struct("<B"), "the shared-head flag")
        if flag > 1:
            raise ModelFormatError(path, "the shared-head flag", f"is {flag}, expected 0 or 1")
        shared = bool(flag)
    elif vocab < 0:
        vocab = -vocab
    if version == 2:
        group_size = cursor.scalar(struct.Struct("<i"), "the group size")
        if not 1 <= group_size <= 1 << 20:
            raise ModelFormatError(path, "the group size", f"is {group_size}, expected 1 to {1 << 20:,}")
    if heads > 0 and dim % heads:
        raise ModelFormatError(path, "header", f"dim {dim} is no multiple of n_heads {heads}")
    try:
        config = ModelConfig(
            dim=dim,
            hidden_dim=hidden,
            n_layers=layers,
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=dim // heads if heads > 0 else 0,
            vocab_size=vocab,
            max_seq_len=seq_len,
            tie_embeddings=shared,
            name=path.stem,
        )
    except ValueError as error:
        raise ModelFormatError(path, "header", str(error)) from error
    return Header(version, config, group_size, HEADER_BYTES if version else cursor.position)
