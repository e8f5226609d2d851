"""How many panels of a matrix the tiles of a prompt take in turn, before they go on to the next ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.control.records import PANELS_AT_ONCE
from llama_core.backends.jit.layout import ABOUT_BYTES, ACTIVATION_BLOCK_BYTES, KINDS, PANEL_ROWS
from llama_core.backends.jit.plan import PackedMatrix
from llama_core.checkpoint import Tensor
from llama_core.profiling.lab.experiment import Case, arrays_match
from llama_core.quant.table import BY_NAME
from llama_core.roofline.instruments import compiled, own_isa

# A down_proj of the 8B shape, and more of its panels (38 MB) than a processor's caches hold.
COLUMNS = 14336
PANELS = 288
TOKENS = 64
FORMAT = BY_NAME["Q4_K"]

F32 = NDArray[np.float32]


def case() -> Case:
    """The row: as many as fit the nearest cache, instead of as many as the plan allows. Needs llvmlite."""
    isa = own_isa()
    matrix = PackedMatrix(
        ((Tensor("x", (PANELS * PANEL_ROWS, COLUMNS), FORMAT, np.zeros((1, 0), np.uint8)),),)
    )
    fitting = matrix.panels_at_once
    return Case(
        name=f"{TOKENS} tokens times a matrix of {COLUMNS:,} columns: {fitting} panels in turn instead of "
        f"{PANELS_AT_ONCE}",
        before=Products(isa, matrix, PANELS_AT_ONCE),
        after=Products(isa, matrix, fitting),
        check=arrays_match(0.0),
        headline=True,
        why="a core's second cache holds the panels until the last tile has taken them, beside those that "
        "come next",
    )


class Products:
    """TOKENS rows of activations times a packed matrix, in one thread; the result is (TOKENS, rows)."""

    def __init__(self, isa: Isa, matrix: PackedMatrix, at_once: int) -> None:
        rng = np.random.default_rng(14)
        tile = isa.tiles[0]
        write = partial(_write, matrix=matrix, at_once=at_once)
        self._kernel = compiled(isa, write, "products", 3)
        inputs = (TOKENS // tile, COLUMNS // 32, tile * ACTIVATION_BLOCK_BYTES)
        arena = Arena(matrix.nbytes + int(np.prod(inputs)) + 64, huge=True)
        weights = arena.take(matrix.nbytes)
        # No byte above 0x3B: as a float16's upper one it makes a number below 1.
        weights[:] = rng.integers(0, 0x3C, len(weights), dtype=np.uint8)
        blocks = arena.take(int(np.prod(inputs))).reshape(inputs)
        quants, about = blocks[..., : tile * 32], blocks[..., tile * 32 : tile * (32 + ABOUT_BYTES)]
        quants[...] = rng.integers(0, 256, quants.shape, dtype=np.uint8)
        about.reshape(*inputs[:2], tile, ABOUT_BYTES)[..., :4].view(np.float32)[...] = 2.0**-9
        self._out = np.empty((TOKENS, matrix.panels * PANEL_ROWS), np.float32)
        self._arguments = [address(x) for x in (weights, blocks, self._out)]
        self._memory = arena

    def __call__(self) -> F32:
        """All tiles times all panels."""
        self._kernel(*self._arguments)
        return self._out


def _write(module: Any, isa: Isa, *, matrix: PackedMatrix, at_once: int) -> None:
    """`products(weights, activations, out)`: `at_once` panels for all tiles, then the next ones."""
    from llama_core.backends.jit.kernels.emit import I64, Code
    from llama_core.backends.jit.kernels.matmul import matmul

    (kind,), tile = matrix.kinds, isa.tiles[0]
    matmul.emit(module, isa, left_out=[*(x for x in KINDS if x is not kind), *isa.tiles[1:]])
    code = Code(module, "products", 3)
    weights, activations, out = code.args
    constant = partial(code.splat, I64)
    panel_bytes, stride, turns = matrix.nbytes // matrix.panels, matrix.panels * 64, TOKENS // tile
    tile_bytes = COLUMNS // 32 * tile * ACTIVATION_BLOCK_BYTES
    with code.loop(0, matrix.panels, at_once) as panel, code.loop(0, turns) as turn:
        code.call(
            matmul.variant(kind, tile),
            None,
            weights + panel * panel_bytes,
            constant(at_once),
            constant(COLUMNS // 32),
            activations + turn * tile_bytes,
            out + turn * (tile * stride) + panel * 64,
            constant(stride),
            constant(0),
            constant(at_once * panel_bytes),
            turn,
            constant(turns),
        )
    code.finish()
