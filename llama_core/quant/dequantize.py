"""Blocks to float32, a piece at a time that stays in the cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llama_core.quant import iq_quants, k_quants, palettes, plain, simple_blocks, ternary
from llama_core.quant.table import BlockFormat

# (n_blocks, block_bytes) uint8 into (n_blocks, block_size) float32, both C-contiguous.
Dequantizer = Callable[[NDArray[np.uint8], NDArray[np.float32]], None]

DEQUANTIZERS: dict[str, Dequantizer] = {
    "F32": plain.dequantize_f32,
    "F16": plain.dequantize_f16,
    "BF16": plain.dequantize_bf16,
    "F64": plain.dequantize_f64,
    "Q4_0": simple_blocks.dequantize_q4_0,
    "Q4_1": simple_blocks.dequantize_q4_1,
    "Q5_0": simple_blocks.dequantize_q5_0,
    "Q5_1": simple_blocks.dequantize_q5_1,
    "Q8_0": simple_blocks.dequantize_q8_0,
    "Q2_K": k_quants.dequantize_q2_k,
    "Q3_K": k_quants.dequantize_q3_k,
    "Q4_K": k_quants.dequantize_q4_k,
    "Q5_K": k_quants.dequantize_q5_k,
    "Q6_K": k_quants.dequantize_q6_k,
    "Q8_K": k_quants.dequantize_q8_k,
    "IQ1_S": iq_quants.dequantize_iq1_s,
    "IQ1_M": iq_quants.dequantize_iq1_m,
    "IQ2_XXS": iq_quants.dequantize_iq2_xxs,
    "IQ2_XS": iq_quants.dequantize_iq2_xs,
    "IQ2_S": iq_quants.dequantize_iq2_s,
    "IQ3_XXS": iq_quants.dequantize_iq3_xxs,
    "IQ3_S": iq_quants.dequantize_iq3_s,
    "IQ4_NL": palettes.dequantize_iq4_nl,
    "IQ4_XS": palettes.dequantize_iq4_xs,
    "MXFP4": palettes.dequantize_mxfp4,
    "NVFP4": palettes.dequantize_nvfp4,
    "TQ1_0": ternary.dequantize_tq1_0,
    "TQ2_0": ternary.dequantize_tq2_0,
    "Q8_GROUP": plain.dequantize_q8_group,
}
# Values computed at a time: 512 KiB of output, which with the temporaries stays in a core's L2 cache.
PIECE_VALUES = 1 << 17


def dequantize(
    raw: NDArray[np.uint8], fmt: BlockFormat, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Rows of blocks as float32.

    raw: (n_rows, row_bytes) uint8 of `fmt`, each row contiguous. out: (n_rows, n_values) float32, any
    strides; made here where absent. Returns `out`. Needs no temporary larger than a piece. Raises
    ValueError for shapes that do not fit together.
    """
    n_rows, row_bytes = raw.shape
    blocks_a_row, rest = divmod(row_bytes, fmt.block_bytes)
    shape = (n_rows, blocks_a_row * fmt.block_size)
    if rest:
        raise ValueError(
            f"rows of {row_bytes} bytes are no multiple of {fmt.name} blocks of {fmt.block_bytes}"
        )
    if out is None:
        out = np.empty(shape, dtype=np.float32)
    if out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected float32 {shape}")
    kernel = DEQUANTIZERS[fmt.name]
    # A scale in a file may be infinite or NaN; the values then say so, which needs no warning beside them.
    with np.errstate(invalid="ignore", over="ignore"):
        if out.flags.c_contiguous:
            _by_blocks(kernel, raw.reshape(-1, fmt.block_bytes), fmt, out.reshape(-1, fmt.block_size))
        else:
            _by_rows(kernel, raw, fmt, out)
    return out


def _by_blocks(
    kernel: Dequantizer, blocks: NDArray[np.uint8], fmt: BlockFormat, out: NDArray[np.float32]
) -> None:
    step = max(1, PIECE_VALUES // fmt.block_size)
    for start in range(0, len(blocks), step):
        kernel(blocks[start : start + step], out[start : start + step])


def _by_rows(kernel: Dequantizer, raw: NDArray[np.uint8], fmt: BlockFormat, out: NDArray[np.float32]) -> None:
    """For an `out` whose rows are apart: a few rows at a time through a small buffer."""
    n_rows, n_values = out.shape
    step = max(1, PIECE_VALUES // max(n_values, 1))
    for start in range(0, n_rows, step):
        rows = raw[start : start + step]
        piece = np.empty((rows.size // fmt.block_bytes, fmt.block_size), dtype=np.float32)
        kernel(rows.reshape(-1, fmt.block_bytes), piece)
        out[start : start + step] = piece.reshape(len(rows), n_values)
