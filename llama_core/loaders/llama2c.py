"""llama2.c's `.bin` files: the legacy layout, version 1 (float32) and version 2 (int8 groups).

Legacy, all float32, layers of a kind together:

    7 x int32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len (vocab_size < 0: own head)
    embeddings | attention norms | wq | wk | wv | wo | ffn norms | w1 | w2 | w3 | norm |
    cos and sin tables of (seq_len, head_dim / 2) | head, if its own

Versions 1 and 2 start with 256 bytes: "ak42" as a number, the version, the same seven numbers, a byte that is
1 where the head is shared, in version 2 the group size as int32, and zeros. Then attention norms, ffn norms
and norm in float32, and embeddings, wq, wk, wv, wo, w1, w2, w3 and the head: float32 in version 1, in version
2 for each matrix its int8 numbers and then its float32 scales, one a group. Nothing names a size twice, so
the file's length must be exactly what the seven numbers imply. Source: llama2.c's export.py, run.c, runq.c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import tensor_shapes
from llama_core.checkpoint import Tensor
from llama_core.errors import ModelFormatError
from llama_core.file_rows import OpenFile
from llama_core.loaders.cursor import Cursor, open_file
from llama_core.loaders.llama2c_header import Header, read_header
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.tensors import check_tensors, in_our_row_order
from llama_core.quant.dequantize import dequantize
from llama_core.quant.table import F32, int8_groups

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")


def read_llama2c(path: Path) -> ModelParts:
    """The model at `path`; its tokenizer is called `tokenizer.bin` and stands beside it.

    int8 weights are copied into blocks of our own; all else stays in the file. Raises ModelFormatError
    or UnsupportedModelError.
    """
    file = open_file(path)
    header = read_header(path, Cursor(path, file.mapped()))
    _check_groups(path, header)
    expected = header.start + sum(_nbytes(shape, group) for _, shape, group in _layout(header))
    if file.size != expected:
        raise ModelFormatError(path, "file size", f"is {file.size:,} bytes; the header implies {expected:,}")
    tensors = _tensors(header, file)
    check_tensors(path, header.config, tensors)
    tensors = in_our_row_order(tensors, header.config)
    metadata = {"version": header.version, "group_size": header.group_size}
    beside = path.with_name("tokenizer.bin")
    return ModelParts(path, "llama2c", file.size, header.config, tensors, metadata, beside)


def _layout(header: Header) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Our name, shape and group size (0 for float32) of everything behind the header, in file order.

    The tables of a legacy file come under the name "".
    """
    config, group = header.config, header.group_size
    shapes = dict(tensor_shapes(config, ()))

    def layers_of(name: str, group: int) -> list[tuple[str, tuple[int, ...], int]]:
        names = [f"layers.{i}.{name}" for i in range(config.n_layers)]
        return [(name, shapes[name], group) for name in names]

    attention_norms, ffn_norms = layers_of("input_layernorm", 0), layers_of("post_attention_layernorm", 0)
    matrices = {name: layers_of(name, group) for name in MATRICES}
    if header.version == 0:
        yield "embed_tokens", shapes["embed_tokens"], 0
        yield from attention_norms
        for name in MATRICES[:4]:
            yield from matrices[name]
        yield from ffn_norms
        for name in MATRICES[4:]:
            yield from matrices[name]
        yield "norm", shapes["norm"], 0
        yield "", (2 * config.max_seq_len, config.head_dim // 2), 0
    else:
        yield from attention_norms
        yield from ffn_norms
        yield "norm", shapes["norm"], 0
        yield "embed_tokens", shapes["embed_tokens"], group
        for name in MATRICES:
            yield from matrices[name]
    if not config.tie_embeddings:
        yield "lm_head", shapes["lm_head"], group


def _nbytes(shape: tuple[int, ...], group: int) -> int:
    values = math.prod(shape)
    return values + 4 * (values // group) if group else 4 * values


def _check_groups(path: Path, header: Header) -> None:
    for name, shape, group in _layout(header):
        if group and math.prod(shape) % group:
            raise ModelFormatError(path, "the group size", f"{group} does not divide {name} of shape {shape}")


def _tensors(header: Header, file: OpenFile) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    position = header.start
    for name, shape, group in _layout(header):
        nbytes = _nbytes(shape, group)
        start, position = position, position + nbytes
        if not name:
            continue
        if group:
            tensors[name] = _grouped(name, shape, group, file.bytes(start, nbytes))
        else:
            row_bytes = 4 * shape[-1]
            tensors[name] = Tensor(name, shape, F32, file.rows(start, nbytes // row_bytes, row_bytes))
    return tensors


def _grouped(name: str, shape: tuple[int, ...], group: int, stored: NDArray[np.uint8]) -> Tensor:
    """int8 numbers and, behind them, their scales, brought together into blocks."""
    values = shape[0] * shape[1]
    fmt = int8_groups(group)
    blocks = np.empty((values // group, fmt.block_bytes), dtype=np.uint8)
    blocks[:, :4] = stored[values:].reshape(-1, 4)
    blocks[:, 4:] = stored[:values].reshape(-1, group)
    if shape[1] % group == 0:
        return Tensor(name, shape, fmt, blocks.reshape(shape[0], -1))
    # Groups that run over the end of a row: the numbers are right, but no row is whole blocks.
    floats = dequantize(blocks, fmt).reshape(shape)
    return Tensor(name, shape, F32, floats.view(np.uint8))
