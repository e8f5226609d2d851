"""The matrix products of a step: an input's rows made ready, and multiplied panel by panel.

Every number of a result gets product and bias in this order, whichever thread takes its panel and however
many rows there are, so the bits are always the same.
"""

from __future__ import annotations

from llama_core.backends.jit.control.attention import gather_heads
from llama_core.backends.jit.control.records import (
    GELU_TANH,
    PANEL_BYTES,
    PANELS_AT_ONCE,
    SILU,
    TILE_BYTES,
    Matrix,
    Operation,
    Panel,
    Phase,
    Plan,
    Product,
    Run,
    Tile,
    Worker,
    attention_at,
    panel_at,
    product_at,
    tile_at,
)
from llama_core.backends.jit.kernels.matmul import matmul
from llama_core.backends.jit.kernels.primitives import fetch, word
from llama_core.backends.jit.kernels.vector import (
    add_row,
    cap_row,
    clamped_swiglu,
    geglu,
    place_floats,
    quantize,
    rms_norm,
    scale_row,
    swiglu,
)
from llama_core.backends.jit.layout import FIRST_FLOAT, FLOAT_BLOCK_BYTES

ROW_BYTES = 64  # sixteen float32: one panel's results for one token
FETCH_LINES = 128  # enough to go on with until reading is under way


def row_items(plan: Plan, phase: Phase) -> int:
    """PREPARE: one for each row."""
    return rows_of(plan, product_at(phase.operand))


def prepare_rows(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """PREPARE: `count` rows from `first` on, packed where all threads read them."""
    for row in range(first, first + count):
        prepare(plan, worker, product_at(phase.operand), row, plan.model.activations)


def panel_items(plan: Plan, phase: Phase) -> int:
    """MULTIPLY: one for each panel, or for each pair of gates and ups."""
    product = product_at(phase.operand)
    return items_of(product)


def multiply_panels(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """MULTIPLY: `count` panels (or pairs) from `first` on, times all rows."""
    product = product_at(phase.operand)
    rows = rows_of(plan, product)
    activations = plan.model.activations
    if plan.step.is_small:
        activations = worker.activations
        if worker.is_prepared == 0:
            worker.is_prepared = 1
            for row in range(rows):
                prepare(plan, worker, product, row, activations)
    multiply(plan, worker, product, first, count, activations, 0, rows)


def multiply_run(plan: Plan, worker: Worker, operation: Operation, run: Run, begin: int, end: int) -> None:
    """PRODUCT: the whole matrix times rows begin .. end, packed in the thread's own memory."""
    product = product_at(operation.operand)
    activations = worker.activations - begin * product.matrix.blocks * product.matrix.activation_bytes
    for row in range(begin, end):
        prepare(plan, worker, product, row, activations)
    multiply(plan, worker, product, 0, items_of(product), activations, begin, end)


def fetch_ahead(plan: Plan, worker: Worker, phase: Phase) -> None:
    """In a step of one token, while waiting: ask for the beginning of one's share of the next matrix."""
    if phase.fetches and plan.step.n_tokens == 1:
        matrix = product_at(phase.fetches).matrix
        first = worker.thread * matrix.panels // plan.n_threads
        fetch(panel_of(matrix, first).weights, FETCH_LINES)


def panel_of(matrix: Matrix, index: int) -> Panel:
    """Which kind of panel number `index` is, and where its blocks are."""
    return panel_at(matrix.records + index * PANEL_BYTES)


def items_of(product: Product) -> int:
    """Panels of its matrix, or pairs of gates and ups."""
    return product.matrix.panels // (2 if product.gated else 1)


def rows_of(plan: Plan, product: Product) -> int:
    """How many rows a product has in this step."""
    return plan.step.n_logits if product.of_logits else plan.step.n_tokens


def tiles_of(plan: Plan, product: Product) -> int:
    """Address of a Tile for each row of the product's input."""
    return plan.step.logit_tiles if product.of_logits else plan.step.tiles


def prepare(plan: Plan, worker: Worker, product: Product, row: int, activations: int) -> None:
    """One row of a product's input: normed, and packed into its place in `activations`."""
    token = word(plan.step.logit_rows, row) if product.of_logits else row
    source = product.source.at + token * product.source.stride
    if product.heads_of and plan.step.is_small:
        source = worker.heads
        gather_heads(plan, worker, attention_at(product.heads_of), token, source)
    if product.norm:
        rms_norm(source, product.norm, worker.row, product.width, product.numbers)
        source = worker.row
    pack_row(product, source, tile_at(tiles_of(plan, product) + row * TILE_BYTES), row, activations)


def pack_row(product: Product, source: int, tile: Tile, row: int, activations: int) -> None:
    """A row, (product.width,) float32, into its place in the tile in which row number `row` lies."""
    block_bytes = product.matrix.activation_bytes
    at = activations + tile.first * (product.width // 32) * block_bytes
    if block_bytes != FLOAT_BLOCK_BYTES:
        quantize(source, product.width, at, tile.size, row - tile.first, product.numbers)
    if block_bytes >= FLOAT_BLOCK_BYTES:
        at += floats_behind(product.matrix, tile.size)
        place_floats(source, product.width, at, tile.size, row - tile.first)


def floats_behind(matrix: Matrix, size: int) -> int:
    """How many bytes of int8 stand before the float32 of a tile of `size` rows."""
    return size * matrix.blocks * (matrix.activation_bytes - FLOAT_BLOCK_BYTES)


def multiply(
    plan: Plan,
    worker: Worker,
    product: Product,
    first: int,
    count: int,
    activations: int,
    begin: int,
    end: int,
) -> None:
    """`count` panels (or pairs) from `first` on, times rows begin .. end, with all that follows the product.

    activations: where packed row 0 is, or would be.
    """
    tiles = tiles_of(plan, product)
    if product.gated:
        multiply_pairs(plan, worker, product, 0, first, count, activations, tiles, begin, end)
    else:
        out = product.out.at + first * ROW_BYTES
        stride, matrix, adds = product.out.stride, product.matrix, product.adds
        multiply_rows(plan, matrix, first, count, activations, tiles, begin, end, out, stride, adds)
        for row in range(begin, end):
            if product.bias:
                add_row(out + row * stride, product.bias + first * ROW_BYTES, count * 16)
            if product.scale:
                scale_row(out + row * stride, count * 16, product.scale)
            if product.softcap:
                cap_row(out + row * stride, count * 16, product.softcap)


def multiply_pairs(
    plan: Plan,
    worker: Worker,
    product: Product,
    start: int,
    first: int,
    count: int,
    activations: int,
    tiles: int,
    begin: int,
    end: int,
) -> None:
    """`count` pairs of gates and ups, of those that start with panel `start` number `first` and what follows,
    times rows begin .. end. activations, tiles: as for `multiply_rows`."""
    stride = PANELS_AT_ONCE * ROW_BYTES
    pairs = worker.pairs - begin * stride
    panel, last = 2 * first, 2 * (first + count)
    while panel < last:
        panels = min(PANELS_AT_ONCE, last - panel)
        at_panel = start + panel
        multiply_rows(
            plan, product.matrix, at_panel, panels, activations, tiles, begin, end, pairs, stride, 0
        )
        for row in range(begin, end):
            at = pairs + row * stride
            if product.bias:
                add_row(at, product.bias + at_panel * ROW_BYTES, panels * 16)
            out = product.out.at + row * product.out.stride
            gate(product.gated, at, out + panel // 2 * ROW_BYTES, panels // 2 * 16)
        panel += panels


def gate(activation: int, pairs: int, out: int, count: int) -> None:
    """out = activation(gate) * up. pairs: gates and ups in turn, sixteen each; out: (count,) float32."""
    if activation == SILU:
        swiglu(pairs, out, count)
    elif activation == GELU_TANH:
        geglu(pairs, out, count)
    else:
        clamped_swiglu(pairs, out, count)


def multiply_rows(
    plan: Plan,
    matrix: Matrix,
    first: int,
    count: int,
    activations: int,
    tiles: int,
    begin: int,
    end: int,
    out: int,
    stride: int,
    adds: int,
) -> None:
    """`count` panels from `first` on, times rows begin .. end. Of many rows, a tile takes a few panels before
    the next tile does: tile and panels then stay in the nearest cache.

    activations, tiles, out: where those of row 0 are, or would be; adds: 1 for out += product.
    """
    at_once = count if end - begin == 1 else PANELS_AT_ONCE
    # A `range` with a variable step could raise an exception, whose text would need addresses in the code.
    panel = 0
    while panel < count:
        alike = panel_of(matrix, first + panel)
        panels = min(min(at_once, count - panel), alike.alike)
        row = begin
        while row < end:
            size = tile_at(tiles + row * TILE_BYTES).size
            inputs = activations + row * matrix.blocks * matrix.activation_bytes
            if alike.kind >= FIRST_FLOAT:
                inputs += floats_behind(matrix, size)
            matmul(
                alike.kind,
                size,
                alike.weights,
                panels,
                matrix.blocks,
                inputs,
                out + row * stride + panel * ROW_BYTES,
                stride,
                adds,
                plan.step.prefetch_bytes,
            )
            row += size
        panel += panels
