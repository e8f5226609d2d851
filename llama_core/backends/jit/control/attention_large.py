"""Attention in a large step, where tokens are shared out. Compiled by Numba (`build.py`)."""

from __future__ import annotations

from llama_core.backends.jit.control.attention import (
    append,
    attend_rows,
    first_block_of,
    gather_queries,
    merge_rows,
    partial_bytes,
    position_of,
)
from llama_core.backends.jit.control.declarations import normalize, word
from llama_core.backends.jit.control.fields import (
    ATTENDED,
    ATTENDED_STRIDE,
    GROUP,
    HEAD_DIM,
    N_KV_HEADS,
    N_SPANS,
    RESULTS_AT,
    SCRATCH,
    SCRATCH_STRIDE,
    SPANS,
    TOTALS_AT,
    N,
)
from llama_core.backends.jit.control.schedule import ITEM_BITS, ITEM_MASK, claim, finish, wait
from llama_core.backends.jit.layout import BLOCK_POSITIONS as BLOCK


def large_attention_phase(plan: int, thread: int, phase: int, end: int, layer: int, layer_index: int) -> int:
    """A large step: all rows of all tokens, some tokens at a time; returns the phase after."""
    spans, kv_heads = word(plan, N_SPANS), word(plan, N_KV_HEADS)
    total = spans * kv_heads
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, 1)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for item in range(first, first + count):
            # Later tokens see more positions; the longest work goes first so that threads end together.
            span = spans - 1 - item // kv_heads
            attend_span(plan, thread, layer, layer_index, item % kv_heads, span)
        done += count
    finish(plan, phase, total, done)
    return wait(plan, thread, phase, end)


def append_phase(plan: int, thread: int, phase: int, end: int, layer: int, layer_index: int) -> int:
    """A large step's keys and values into the cache, before anyone attends to them."""
    total = word(plan, N)
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, 1)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for token in range(first, first + count):
            for kv_head in range(word(plan, N_KV_HEADS)):
                append(plan, thread, layer, layer_index, kv_head, token)
        done += count
    finish(plan, phase, total, done)
    return wait(plan, thread, phase, end)


def attend_span(plan: int, thread: int, layer: int, layer_index: int, kv_head: int, span: int) -> None:
    """A large step: some tokens' rows of one key-value head over all their positions, into `ATTENDED`."""
    first = word(word(plan, SPANS), 2 * span)
    tokens = word(word(plan, SPANS), 2 * span + 1)
    group, head_dim, size = word(plan, GROUP), word(plan, HEAD_DIM), partial_bytes(plan)
    scratch = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE)
    results, totals = scratch + word(plan, RESULTS_AT), scratch + word(plan, TOTALS_AT)
    gather_queries(plan, thread, layer, kv_head, first, tokens)
    begin = first_block_of(plan, first)
    for block in range(begin, position_of(plan, first + tokens - 1) // BLOCK + 1):
        attend_rows(plan, thread, layer_index, kv_head, block, first, tokens, results)
        merge_rows(plan, first, tokens, block, totals, results)
    for token in range(tokens):
        out = (
            word(plan, ATTENDED)
            + (first + token) * word(plan, ATTENDED_STRIDE)
            + kv_head * group * head_dim * 4
        )
        for head in range(group):
            normalize(totals + (token * group + head) * size, out + head * head_dim * 4, head_dim)
