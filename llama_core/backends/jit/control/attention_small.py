"""Attention in a small step, where blocks of positions are shared out. Compiled by Numba (`build.py`)."""

from __future__ import annotations

from llama_core.backends.jit.control.attention import (
    append,
    attend_rows,
    first_block_of,
    gather_queries,
    merge_block,
    merge_rows,
    partial_bytes,
    position_of,
)
from llama_core.backends.jit.control.declarations import atomic_store, copy_row, normalize, word
from llama_core.backends.jit.control.fields import (
    FIRST_BLOCK,
    FOLDED,
    GROUP,
    HEAD_DIM,
    N_BLOCKS,
    N_KV_HEADS,
    PARTIALS,
    RESULTS_AT,
    SCRATCH,
    SCRATCH_STRIDE,
    TOTALS_AT,
    N,
)
from llama_core.backends.jit.control.schedule import ITEM_BITS, ITEM_MASK, claim, finish, wait
from llama_core.backends.jit.layout import BLOCK_POSITIONS as BLOCK


def small_attention_phase(plan: int, thread: int, phase: int, end: int, layer: int, layer_index: int) -> int:
    """A small step: all rows of its tokens, block by block; returns the phase after.

    Whoever computes a head's first block merges the next ones into it as long as it is the one that computes
    them. The others stay apart until `gather_heads`, so that the order of merging is always the same:

        thread 0 computed | 0 1 2 3 4 |  thread 1 | 5 6 7 |    held: | 0+1+2+3+4 | . . . . | 5 | 6 | 7 |

    The fewer results, the fewer cache lines must go from one core to the other, which takes longest.
    """
    parts = word(plan, N_BLOCKS)
    total = parts * word(plan, N_KV_HEADS)
    gathered = -1  # the key-value head whose queries are ready
    foldable = -1  # the item whose result may be merged into its head's first
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, 1)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for item in range(first, first + count):
            kv_head, part = item // parts, item % parts
            if gathered != kv_head:
                gathered = kv_head
                gather_queries(plan, thread, layer, kv_head, 0, word(plan, N))
            folds = part > 0 and item == foldable
            attend_block(plan, thread, layer, layer_index, kv_head, part, folds)
            if folds or part == 0:
                foldable = item + 1
                atomic_store(word(plan, FOLDED) + kv_head * 8, part + 1)
        done += count
    finish(plan, phase, total, done)
    return wait(plan, thread, phase, end)


def attend_block(
    plan: int, thread: int, layer: int, layer_index: int, kv_head: int, part: int, folds: bool
) -> None:
    """A small step: one block of positions for the gathered rows of one key-value head, into `PARTIALS`:
    a result of its own, or merged into the first."""
    tokens = word(plan, N)
    block = word(plan, FIRST_BLOCK) + part
    for token in range(tokens):
        if position_of(plan, token) // BLOCK == block:
            append(plan, thread, layer, layer_index, kv_head, token)
    if not folds:
        attend_rows(plan, thread, layer_index, kv_head, block, 0, tokens, results_of(plan, kv_head, part))
        return
    results = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE) + word(plan, RESULTS_AT)
    attend_rows(plan, thread, layer_index, kv_head, block, 0, tokens, results)
    merge_rows(plan, 0, tokens, block, results_of(plan, kv_head, 0), results)


def gather_heads(plan: int, thread: int, token: int, out: int) -> None:
    """A small step: a token's heads from the blocks' results, merged from first to last."""
    group, head_dim, size = word(plan, GROUP), word(plan, HEAD_DIM), partial_bytes(plan)
    blocks, first = word(plan, N_BLOCKS), word(plan, FIRST_BLOCK)
    begin = first_block_of(plan, token) - first
    total = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE) + word(plan, TOTALS_AT)
    for kv_head in range(word(plan, N_KV_HEADS)):
        folded = word(word(plan, FOLDED), kv_head)
        for head in range(group):
            row = (token * group + head) * size
            if begin < folded:
                copy_row(total, results_of(plan, kv_head, 0) + row, size // 4)
            for part in range(folded, blocks):
                merge_block(plan, token, first + part, total, results_of(plan, kv_head, part) + row)
            normalize(total, out + (kv_head * group + head) * head_dim * 4, head_dim)


def results_of(plan: int, kv_head: int, part: int) -> int:
    """A small step's results of one block, row by row."""
    rows = word(plan, N) * word(plan, GROUP)
    return word(plan, PARTIALS) + (kv_head * word(plan, N_BLOCKS) + part) * rows * partial_bytes(plan)
