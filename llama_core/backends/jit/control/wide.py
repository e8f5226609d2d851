"""A step of many tokens (prefill), as each thread runs it. Compiled by Numba (`build.py`).

Tokens are cut into runs, and a thread takes a run through a whole layer by itself: its rows never leave its
own caches. The threads wait for each other once a layer, since attention needs the keys and values of all
tokens before:

    run 0   norm, qkv, append | attention, o, norm, gate, up, down, norm, qkv, append | attention, o, ...
    run 1   norm, qkv, append | attention, o, norm, gate, up, down, norm, qkv, append | attention, o, ...
            layer 0             layer 0                        layer 1

Each run reads all weights, which is cheap: a run's arithmetic takes longer than the reading.

Of the model's last layer, only keys and values count for tokens whose logits nobody asks for: it leaves them
there. Of a prompt, that is all but the tile of its last token, and a layer's share of the time.
"""

from __future__ import annotations

from llama_core.backends.jit.control.attention import append
from llama_core.backends.jit.control.attention_large import attend_span
from llama_core.backends.jit.control.declarations import add_row, swiglu, word
from llama_core.backends.jit.control.fields import (
    ATTENTION_NORM,
    BLOCKS,
    DOWN_BIAS,
    DOWN_MATRIX,
    FFN_NORM,
    FIRST_LAYER,
    GATE_UP_BIAS,
    GATE_UP_MATRIX,
    GATED,
    GATED_STRIDE,
    LAST_LAYER,
    LAYER_WORDS,
    LAYERS,
    N_KV_HEADS,
    N_RUNS,
    O_BIAS,
    O_MATRIX,
    OWN_ACTIVATIONS_AT,
    PAIR_AT,
    PANELS,
    QKV,
    QKV_BIAS,
    QKV_MATRIX,
    QKV_STRIDE,
    RUNS,
    SPANS,
    UNFINISHED,
    X_STRIDE,
    X,
)
from llama_core.backends.jit.control.products import (
    HEADS,
    HIDDENS,
    NORMED,
    PANELS_AT_ONCE,
    ROW_BYTES,
    multiply,
    prepare,
    scratch_of,
)
from llama_core.backends.jit.control.schedule import ITEM_BITS, ITEM_MASK, claim, finish, wait
from llama_core.backends.jit.layout import ACTIVATION_BLOCK_BYTES as BLOCK_BYTES

RUN_WORDS = 4  # first token, number of tokens, first span, number of spans


def wide_layers(plan: int, thread: int, phase: int, end: int) -> int:
    """All planned layers; returns the phase after them."""
    first, last = word(plan, FIRST_LAYER), word(plan, LAST_LAYER)
    total = word(plan, N_RUNS)
    for i in range(first - 1, last):
        done = 0
        while True:
            claimed = claim(plan, thread, phase, end, total, 1)
            if claimed < 0:
                break
            start, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
            for k in range(start, start + count):
                run = word(plan, RUNS) + k * RUN_WORDS * 8
                if i >= first:
                    finish_layer(plan, thread, run, i, word(plan, UNFINISHED) if i == last - 1 else 0)
                if i + 1 < last:
                    begin_layer(plan, thread, run, i + 1)
            done += count
        finish(plan, phase, total, done)
        phase = wait(plan, thread, phase, end)
    return phase


def begin_layer(plan: int, thread: int, run: int, index: int) -> None:
    """Norm, q, k and v of a run's tokens; keys and values into the cache."""
    layer = word(plan, LAYERS) + index * LAYER_WORDS * 8
    out, stride = word(plan, QKV), word(plan, QKV_STRIDE)
    matrix, bias = word(layer, QKV_MATRIX), word(layer, QKV_BIAS)
    first, last = word(run, 0), word(run, 0) + word(run, 1)
    norm = word(layer, ATTENTION_NORM)
    rows_product(plan, thread, first, last, NORMED, norm, matrix, out, stride, 0, bias)
    for token in range(first, last):
        for kv_head in range(word(plan, N_KV_HEADS)):
            append(plan, thread, layer, index, kv_head, token)


def finish_layer(plan: int, thread: int, run: int, index: int, unfinished: int) -> None:
    """Attention and feed-forward of a run's tokens, from the token `unfinished` on, where a tile begins,
    added to the residual stream."""
    layer = word(plan, LAYERS) + index * LAYER_WORDS * 8
    x, x_stride = word(plan, X), word(plan, X_STRIDE)
    first, last = max(word(run, 0), unfinished), word(run, 0) + word(run, 1)
    if first >= last:
        return
    for span in range(word(run, 2), word(run, 2) + word(run, 3)):
        if word(word(plan, SPANS), 2 * span) + word(word(plan, SPANS), 2 * span + 1) > first:
            for kv_head in range(word(plan, N_KV_HEADS)):
                attend_span(plan, thread, layer, index, kv_head, span)
    matrix, bias = word(layer, O_MATRIX), word(layer, O_BIAS)
    rows_product(plan, thread, first, last, HEADS, 0, matrix, x, x_stride, 1, bias)
    norm, matrix, bias = word(layer, FFN_NORM), word(layer, GATE_UP_MATRIX), word(layer, GATE_UP_BIAS)
    rows_gate_up(plan, thread, first, last, norm, matrix, bias)
    matrix, bias = word(layer, DOWN_MATRIX), word(layer, DOWN_BIAS)
    rows_product(plan, thread, first, last, HIDDENS, 0, matrix, x, x_stride, 1, bias)


def rows_product(
    plan: int,
    thread: int,
    first: int,
    last: int,
    what: int,
    norm: int,
    matrix: int,
    out: int,
    stride: int,
    add: int,
    bias: int,
) -> None:
    """A whole matrix times rows `first` to `last`, and its bias, in the order of `product`."""
    activations = prepare_rows(plan, thread, first, last, what, norm, matrix)
    multiply(plan, what, matrix, 0, word(matrix, PANELS), activations, first, last, out, stride, add)
    if bias:
        for row in range(first, last):
            add_row(out + row * stride, bias, word(matrix, PANELS) * 16)


def rows_gate_up(plan: int, thread: int, first: int, last: int, norm: int, matrix: int, bias: int) -> None:
    """gated = silu(gate) * up of some rows, a few pairs of panels at a time."""
    activations = prepare_rows(plan, thread, first, last, NORMED, norm, matrix)
    stride = PANELS_AT_ONCE * ROW_BYTES
    pairs = scratch_of(plan, thread) + word(plan, PAIR_AT) - first * stride
    gated, gated_stride = word(plan, GATED), word(plan, GATED_STRIDE)
    panels = word(matrix, PANELS)
    for panel in range(0, panels, PANELS_AT_ONCE):
        count = min(PANELS_AT_ONCE, panels - panel)
        multiply(plan, NORMED, matrix, panel, count, activations, first, last, pairs, stride, 0)
        for row in range(first, last):
            if bias:
                add_row(pairs + row * stride, bias + panel * ROW_BYTES, count * 16)
            swiglu(pairs + row * stride, gated + row * gated_stride + panel // 2 * ROW_BYTES, count // 2 * 16)


def prepare_rows(plan: int, thread: int, first: int, last: int, what: int, norm: int, matrix: int) -> int:
    """Rows `first` to `last`, packed, in the thread's own memory; returns where row 0 would be."""
    own = scratch_of(plan, thread) + word(plan, OWN_ACTIVATIONS_AT)
    activations = own - first * word(matrix, BLOCKS) * BLOCK_BYTES
    for row in range(first, last):
        prepare(plan, thread, what, norm, row, activations)
    return activations
