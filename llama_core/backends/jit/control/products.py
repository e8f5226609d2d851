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
    VISIT_BYTES,
    Matrix,
    Operation,
    Panel,
    Phase,
    Plan,
    Product,
    Run,
    Visit,
    Worker,
    attention_at,
    panel_at,
    product_at,
    tile_at,
    visit_at,
)
from llama_core.backends.jit.kernels.matmul import matmul
from llama_core.backends.jit.kernels.primitives import fetch, word
from llama_core.backends.jit.kernels.quantize import place_floats, quantize
from llama_core.backends.jit.kernels.vector import (
    add_row,
    add_scaled,
    cap_row,
    clamped_swiglu,
    geglu,
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
    multiply(plan, worker, product, first, count, packed_input(plan, worker, product, rows), 0, rows)


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
    return product.matrix.panels // item_panels(product)


def item_panels(product: Product) -> int:
    """Panels of an item: a pair where they are gates and ups in turn."""
    return 2 if product.gated else 1


def rows_of(plan: Plan, product: Product) -> int:
    """How many rows a product has in this step."""
    return plan.step.n_logits if product.of_logits else plan.step.n_tokens


def tiles_of(plan: Plan, worker: Worker, product: Product) -> int:
    """Address of a Tile for each row of the product's input."""
    if product.experts:
        return worker.visit_tiles
    return plan.step.logit_tiles if product.of_logits else plan.step.tiles


def packed_input(plan: Plan, worker: Worker, product: Product, rows: int) -> int:
    """Where the product's packed rows are: in memory that all threads share, or in a small step in the
    thread's own, where it packs the first `rows` of them once a phase."""
    if plan.step.is_small == 0:
        return plan.model.activations
    if worker.is_prepared == 0:
        worker.is_prepared = 1
        for row in range(rows):
            prepare(plan, worker, product, row, worker.activations)
    return worker.activations


def prepare(plan: Plan, worker: Worker, product: Product, row: int, activations: int) -> None:
    """One row of a product's input (a token's, a visit's, or one that logits are asked for), normed, into its
    place in its tile. activations: where packed row 0 is, or would be."""
    index = row
    if product.of_logits:
        index = word(plan.step.logit_rows, row)
    elif product.experts and product.gated:
        index = visit_of(worker, row).token
    source = product.source.at + index * product.source.stride
    if product.heads_of and plan.step.is_small:
        source = worker.heads
        gather_heads(plan, worker, attention_at(product.heads_of), index, source)
    if product.norm:
        rms_norm(source, product.norm, worker.row, product.width, product.numbers)
        source = worker.row
    tile = tile_at(tiles_of(plan, worker, product) + row * TILE_BYTES)
    block_bytes = product.matrix.activation_bytes
    at = activations + tile.first * product.matrix.blocks * block_bytes
    if block_bytes != FLOAT_BLOCK_BYTES:
        token, span = row - tile.first, product.matrix.scale_columns
        quantize(source, product.width, at, tile.size, token, product.numbers, span)
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
    if product.gated:
        multiply_in_parts(plan, worker, product, 0, 2 * first, 2 * count, activations, begin, end)
    else:
        out, tiles = product.out.at + first * ROW_BYTES, tiles_of(plan, worker, product)
        stride, matrix, adds = product.out.stride, product.matrix, product.adds
        multiply_rows(plan, matrix, first, count, activations, tiles, begin, end, out, stride, adds)
        for row in range(begin, end):
            if product.bias:
                add_row(out + row * stride, product.bias + first * ROW_BYTES, count * 16)
            if product.scale:
                scale_row(out + row * stride, count * 16, product.scale)
            if product.softcap:
                cap_row(out + row * stride, count * 16, product.softcap)


def multiply_in_parts(
    plan: Plan,
    worker: Worker,
    product: Product,
    start: int,
    first: int,
    count: int,
    activations: int,
    begin: int,
    end: int,
) -> None:
    """`count` panels, of those that start with panel `start` number `first` and what follows, times rows
    begin .. end, some at a time in the thread's own memory. From there gates and ups become one number, or an
    expert's results go to their tokens, with their share. activations: as for `multiply_rows`."""
    stride = PANELS_AT_ONCE * ROW_BYTES
    results, tiles = worker.pairs - begin * stride, tiles_of(plan, worker, product)
    panel, last = first, first + count
    while panel < last:
        panels = min(PANELS_AT_ONCE, last - panel)
        at_panel = start + panel
        multiply_rows(
            plan, product.matrix, at_panel, panels, activations, tiles, begin, end, results, stride, 0
        )
        for row in range(begin, end):
            at = results + row * stride
            if product.bias:
                add_row(at, product.bias + at_panel * ROW_BYTES, panels * 16)
            if product.gated:
                out = product.out.at + row * product.out.stride + panel // 2 * ROW_BYTES
                gate(product.gated, at, out, panels // 2 * 16)
            else:
                visit = visit_of(worker, row)
                out = product.out.at + visit.token * product.out.stride + panel * ROW_BYTES
                add_scaled(out, at, panels * 16, visit.share)
        panel += panels


def visit_of(worker: Worker, index: int) -> Visit:
    """The phase's visit number `index`, where the product is of experts."""
    return visit_at(worker.visits + index * VISIT_BYTES)


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
    the next tile does: tile and panels then stay in the nearest cache, and what lies behind them is asked
    for meanwhile, by each tile some of them (`kernels/ahead.py`).

    activations, tiles, out: where those of row 0 are, or would be; adds: 1 for out += product.
    """
    at_once = count if end - begin == 1 else matrix.panels_at_once
    turns = 1
    if plan.step.in_turn:
        turns = (end - begin - 1) // tile_at(tiles + begin * TILE_BYTES).size + 1
    # A `range` with a variable step could raise an exception, whose text would need addresses in the code.
    panel = 0
    while panel < count:
        alike = panel_of(matrix, first + panel)
        panels = min(min(at_once, count - panel), alike.alike)
        ahead = plan.step.prefetch_bytes
        if turns > 1 and first + panel + 1 < matrix.panels:
            ahead = panels * (panel_of(matrix, first + panel + 1).weights - alike.weights)
        row, turn = begin, 0
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
                ahead,
                turn,
                turns,
            )
            row += size
            turn += 1
        panel += panels
