"""The matrix products of a step: rows made ready, multiplied panel by panel. Compiled by Numba."""

from __future__ import annotations

from llama_core.backends.jit.control.attention_small import gather_heads
from llama_core.backends.jit.control.declarations import (
    add_row,
    fetch,
    matmul,
    quantize,
    rms_norm,
    swiglu,
    word,
)
from llama_core.backends.jit.control.fields import (
    ACTIVATIONS,
    ALIKE,
    ATTENDED,
    ATTENDED_STRIDE,
    BLOCKS,
    DIM,
    DIM_NUMBERS,
    GATED,
    GATED_STRIDE,
    HEADS_AT,
    HIDDEN,
    HIDDEN_NUMBERS,
    KIND,
    LOGIT_ROWS,
    LOGIT_TILE_OF,
    LOOK_AHEAD,
    MATRIX_WORDS,
    N_LOGITS,
    OWN_ACTIVATIONS_AT,
    PAIR_AT,
    PANEL_RECORDS,
    PANEL_WORDS,
    PANELS,
    Q_DIM,
    Q_NUMBERS,
    ROW_AT,
    SCRATCH,
    SCRATCH_STRIDE,
    SMALL,
    THREADS,
    TILE_OF,
    WEIGHTS,
    X_STRIDE,
    N,
    X,
)
from llama_core.backends.jit.control.schedule import ITEM_BITS, ITEM_MASK, claim, finish, wait
from llama_core.backends.jit.layout import ACTIVATION_BLOCK_BYTES as BLOCK_BYTES

# What a product's input is made from.
NORMED, HEADS, HIDDENS, FINAL = 0, 1, 2, 3
# Panels to take at least for a single token: less would be too short a stream for its prefetches to pay.
LEAST_PANELS = 4
PANELS_AT_ONCE = 8  # even, for pairs of gate and up
FETCH_LINES = 128  # enough to go on with until reading is under way
ROW_BYTES = 64  # sixteen float32: one panel's results for one token


def product(
    plan: int,
    thread: int,
    phase: int,
    end: int,
    what: int,
    norm: int,
    matrix: int,
    out: int,
    out_stride: int,
    add: int,
    bias: int,
) -> int:
    """The phases of one matrix times all rows, plus its bias (0: none); returns the phase after them.

    Where the product is added to the residual stream, so is the bias, after it: each number of a row gets
    product and bias in this order, whichever thread takes its panel and however many rows there are.
    """
    rows = word(plan, N_LOGITS) if what == FINAL else word(plan, N)
    ready = word(plan, SMALL) == 0
    if ready:
        phase = prepare_phase(plan, thread, phase, end, what, norm, rows)
    activations = activations_of(plan, thread)
    total = word(matrix, PANELS)
    least = LEAST_PANELS if rows == 1 else 1
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, least)
        if claimed < 0:
            break
        if not ready:
            for row in range(rows):
                prepare(plan, thread, what, norm, row, activations)
            ready = True
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        multiply(
            plan, what, matrix, first, count, activations, 0, rows, out + first * ROW_BYTES, out_stride, add
        )
        if bias:
            for row in range(rows):
                add_row(out + first * ROW_BYTES + row * out_stride, bias + first * ROW_BYTES, count * 16)
        done += count
    finish(plan, phase, total, done)
    if rows == 1 and what != FINAL:
        fetch_ahead(plan, thread, matrix)
    return wait(plan, thread, phase, end)


def gate_up(plan: int, thread: int, phase: int, end: int, norm: int, matrix: int, bias: int) -> int:
    """gated = silu(gate) * up; the fused matrix, and its bias, have panels of gates and ups in turn."""
    rows = word(plan, N)
    ready = word(plan, SMALL) == 0
    if ready:
        phase = prepare_phase(plan, thread, phase, end, NORMED, norm, rows)
    activations = activations_of(plan, thread)
    pair = scratch_of(plan, thread) + word(plan, PAIR_AT)
    gated, stride = word(plan, GATED), word(plan, GATED_STRIDE)
    total = word(matrix, PANELS) // 2
    least = LEAST_PANELS // 2 if rows == 1 else 1
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, least)
        if claimed < 0:
            break
        if not ready:
            for row in range(rows):
                prepare(plan, thread, NORMED, norm, row, activations)
            ready = True
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for i in range(first, first + count):
            multiply(plan, NORMED, matrix, 2 * i, 2, activations, 0, rows, pair, 2 * ROW_BYTES, 0)
            for row in range(rows):
                if bias:
                    add_row(pair + row * 2 * ROW_BYTES, bias + 2 * i * ROW_BYTES, 32)
                swiglu(pair + row * 2 * ROW_BYTES, gated + row * stride + i * ROW_BYTES, 16)
        done += count
    finish(plan, phase, total, done)
    if rows == 1:
        fetch_ahead(plan, thread, matrix)
    return wait(plan, thread, phase, end)


def fetch_ahead(plan: int, thread: int, matrix: int) -> None:
    """While waiting, ask for the beginning of one's share of the next matrix: its record follows."""
    following = matrix + MATRIX_WORDS * 8
    first = thread * word(following, PANELS) // word(plan, THREADS)
    fetch(word(panel_of(following, first), WEIGHTS), FETCH_LINES)


def prepare_phase(plan: int, thread: int, phase: int, end: int, what: int, norm: int, rows: int) -> int:
    """All rows of a product's input, shared out by row."""
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, rows, 1)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for row in range(first, first + count):
            prepare(plan, thread, what, norm, row, word(plan, ACTIVATIONS))
        done += count
    finish(plan, phase, rows, done)
    return wait(plan, thread, phase, end)


def prepare(plan: int, thread: int, what: int, norm: int, row: int, activations: int) -> None:
    """One row of a product's input, packed into its place in `activations`."""
    own_row = scratch_of(plan, thread) + word(plan, ROW_AT)
    source, width, numbers = own_row, word(plan, DIM), word(plan, DIM_NUMBERS)
    tile_of = word(plan, TILE_OF)
    if what == HEADS:
        width, numbers = word(plan, Q_DIM), word(plan, Q_NUMBERS)
        if word(plan, SMALL):
            source = scratch_of(plan, thread) + word(plan, HEADS_AT)
            gather_heads(plan, thread, row, source)
        else:
            source = word(plan, ATTENDED) + row * word(plan, ATTENDED_STRIDE)
    elif what == HIDDENS:
        width, numbers = word(plan, HIDDEN), word(plan, HIDDEN_NUMBERS)
        source = word(plan, GATED) + row * word(plan, GATED_STRIDE)
    else:
        token = row
        if what == FINAL:
            token = word(word(plan, LOGIT_ROWS), row)
            tile_of = word(plan, LOGIT_TILE_OF)
        rms_norm(word(plan, X) + token * word(plan, X_STRIDE), norm, own_row, width, numbers)
    first, size = word(tile_of, 2 * row), word(tile_of, 2 * row + 1)
    quantize(source, width, activations + first * (width // 32) * BLOCK_BYTES, size, row - first, numbers)


def multiply(
    plan: int,
    what: int,
    matrix: int,
    first: int,
    count: int,
    activations: int,
    first_row: int,
    last_row: int,
    out: int,
    out_stride: int,
    add: int,
) -> None:
    """`count` panels from `first` on, times rows first_row .. last_row. Of many rows, a tile takes a few
    panels before the next tile does: tile and panels then stay in the nearest cache.

    activations, out: where row 0 is, or would be.
    """
    blocks = word(matrix, BLOCKS)
    tile_of = word(plan, LOGIT_TILE_OF) if what == FINAL else word(plan, TILE_OF)
    at_once = count if last_row - first_row == 1 else PANELS_AT_ONCE
    # A `range` with a variable step could raise an exception, whose text would need addresses in the code.
    panel = 0
    while panel < count:
        record = panel_of(matrix, first + panel)
        panels = min(min(at_once, count - panel), word(record, ALIKE))
        row = first_row
        while row < last_row:
            size = word(tile_of, 2 * row + 1)
            matmul(
                word(record, KIND),
                size,
                word(record, WEIGHTS),
                panels,
                blocks,
                activations + row * blocks * BLOCK_BYTES,
                out + row * out_stride + panel * ROW_BYTES,
                out_stride,
                add,
                word(plan, LOOK_AHEAD),
            )
            row += size
        panel += panels


def panel_of(matrix: int, index: int) -> int:
    """The record of a panel."""
    return word(matrix, PANEL_RECORDS) + index * PANEL_WORDS * 8


def scratch_of(plan: int, thread: int) -> int:
    return word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE)


def activations_of(plan: int, thread: int) -> int:
    """Where packed activations are: a thread's own in a small step, the shared ones in a large one."""
    if word(plan, SMALL):
        return scratch_of(plan, thread) + word(plan, OWN_ACTIVATIONS_AT)
    return word(plan, ACTIVATIONS)
