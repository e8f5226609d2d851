"""Attention within a step, as each thread runs it. Compiled by Numba (`build.py`).

A row is one query head of one token. Rows that share a key-value head are computed together, as many at
once as there are registers for; blocks of 64 positions and their merge are drawn in `attention.py`.
"""

from __future__ import annotations

from llama_core.jit.declarations import (
    attend,
    copy_row,
    interleave,
    merge,
    normalize,
    rms_norm,
    rotate,
    scale_row,
    store_int32,
    store_q8,
    word,
)
from llama_core.jit.fields import (
    ATTENDED,
    ATTENDED_STRIDE,
    COS,
    FIRST_BLOCK,
    GROUP,
    HALF,
    HEAD_AT,
    HEAD_DIM,
    HEAD_NUMBERS,
    K_NORM,
    KV_BLOCK_BYTES,
    KV_Q8,
    LIMITS_AT,
    LOWS_AT,
    N_BLOCKS,
    N_KV_HEADS,
    N_SPANS,
    PARTIALS,
    Q_NORM,
    QKV,
    QKV_STRIDE,
    QUERIES_AT,
    QUERY_SCALE,
    RESULTS_AT,
    SCORES_AT,
    SCRATCH,
    SCRATCH_STRIDE,
    SIN,
    SMALL,
    SPANS,
    TOKENS,
    TOTALS_AT,
    WINDOW,
    N,
)
from llama_core.jit.schedule import ITEM_BITS, ITEM_MASK, claim, finish, wait

BLOCK = 64  # positions; attention.BLOCK_POSITIONS
HEAD_BYTES = 128  # of a partial before its numbers; attention.PARTIAL_HEAD_BYTES
TOKEN_WORDS = 4


def attention_phase(plan: int, thread: int, phase: int, end: int, layer: int, layer_index: int) -> int:
    """All rows of all tokens; returns the phase after."""
    small = word(plan, SMALL)
    parts = word(plan, N_BLOCKS) if small else word(plan, N_SPANS)
    total = parts * word(plan, N_KV_HEADS)
    done = 0
    while True:
        claimed = claim(plan, thread, phase, end, total, 1)
        if claimed < 0:
            break
        first, count = claimed >> ITEM_BITS, claimed & ITEM_MASK
        for item in range(first, first + count):
            if small:
                attend_block(plan, thread, layer, layer_index, item // parts, item % parts)
            else:
                # Later tokens see more positions; the longest work goes first so that threads end together.
                attend_span(
                    plan,
                    thread,
                    layer,
                    layer_index,
                    item % word(plan, N_KV_HEADS),
                    parts - 1 - item // word(plan, N_KV_HEADS),
                )
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


def append(plan: int, thread: int, layer: int, layer_index: int, kv_head: int, token: int) -> None:
    """One token's key (normed, rotated) and value of one head into the cache."""
    head_dim = word(plan, HEAD_DIM)
    n_kv_heads = word(plan, N_KV_HEADS)
    row = word(plan, QKV) + token * word(plan, QKV_STRIDE)
    key = row + (word(plan, GROUP) * n_kv_heads + kv_head) * head_dim * 4
    value = key + n_kv_heads * head_dim * 4
    own = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE) + word(plan, HEAD_AT)
    position = position_of(plan, token)
    turn(plan, key, own, word(layer, K_NORM), position)
    block, place = position // BLOCK, position % BLOCK
    keys = keys_of(plan, token, layer_index, kv_head) + block * word(plan, KV_BLOCK_BYTES)
    values = values_of(plan, token, layer_index, kv_head) + block * word(plan, KV_BLOCK_BYTES)
    group, lane = place // 16 * head_dim * 16, place % 16
    if word(plan, KV_Q8):
        scales = BLOCK * head_dim + place * 4
        store_q8(own, keys + group + lane, head_dim, 16, keys + scales)
        store_q8(value, values + place * head_dim, head_dim, 1, values + scales)
    else:
        interleave(own, keys + (group + lane) * 4, head_dim, 64)
        copy_row(values + place * head_dim * 4, value, head_dim)


def turn(plan: int, head: int, out: int, norm: int, position: int) -> None:
    """out = a head, normed where the model does that, rotated by its position. Behind `out`'s head_dim
    numbers stand zeros up to a multiple of 32, here as in every row."""
    head_dim, half = word(plan, HEAD_DIM), word(plan, HALF)
    copy_row(out, head, head_dim)
    if norm:
        rms_norm(out, norm, out, (head_dim + 31) // 32 * 32, word(plan, HEAD_NUMBERS))
    rotate(out, word(plan, COS) + position * half * 4, word(plan, SIN) + position * half * 4, half)


def position_of(plan: int, token: int) -> int:
    return word(word(plan, TOKENS), TOKEN_WORDS * token)


def keys_of(plan: int, token: int, layer_index: int, kv_head: int) -> int:
    """The keys of one layer and head in the cache of the token's sequence."""
    entry = word(plan, TOKENS) + TOKEN_WORDS * 8 * token
    return word(entry, 1) + (layer_index * word(plan, N_KV_HEADS) + kv_head) * word(entry, 3)


def values_of(plan: int, token: int, layer_index: int, kv_head: int) -> int:
    entry = word(plan, TOKENS) + TOKEN_WORDS * 8 * token
    return word(entry, 2) + (layer_index * word(plan, N_KV_HEADS) + kv_head) * word(entry, 3)


def attend_block(plan: int, thread: int, layer: int, layer_index: int, kv_head: int, part: int) -> None:
    """A small step: one block of positions for all rows of one key-value head, into `PARTIALS`."""
    tokens = word(plan, N)
    block = word(plan, FIRST_BLOCK) + part
    for token in range(tokens):
        if position_of(plan, token) // BLOCK == block:
            append(plan, thread, layer, layer_index, kv_head, token)
    gather_queries(plan, thread, layer, kv_head, 0, tokens)
    rows = tokens * word(plan, GROUP)
    out = word(plan, PARTIALS) + (kv_head * word(plan, N_BLOCKS) + part) * rows * partial_bytes(plan)
    attend_rows(plan, thread, layer_index, kv_head, block, 0, tokens, out)


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
        for token in range(tokens):
            for head in range(group):
                at = (token * group + head) * size
                merge_block(plan, first + token, block, totals + at, results + at)
    for token in range(tokens):
        out = (
            word(plan, ATTENDED)
            + (first + token) * word(plan, ATTENDED_STRIDE)
            + kv_head * group * head_dim * 4
        )
        for head in range(group):
            normalize(totals + (token * group + head) * size, out + head * head_dim * 4, head_dim)


def merge_block(plan: int, token: int, block: int, total: int, result: int) -> None:
    """Add a block's result to a row's total; the row's first block is the total."""
    begin = first_block_of(plan, token)
    if block == begin:
        copy_row(total, result, partial_bytes(plan) // 4)
    elif begin < block <= position_of(plan, token) // BLOCK:
        merge(total, result, word(plan, HEAD_DIM))


def first_block_of(plan: int, token: int) -> int:
    """The first block in which a token sees anything."""
    return max(0, position_of(plan, token) - word(plan, WINDOW) + 1) // BLOCK


def gather_queries(plan: int, thread: int, layer: int, kv_head: int, first: int, tokens: int) -> None:
    """Norm, rotate and scale the rows, and interleave them in groups as `attend` takes them."""
    group, head_dim = word(plan, GROUP), word(plan, HEAD_DIM)
    scratch = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE)
    own = scratch + word(plan, HEAD_AT)
    queries = scratch + word(plan, QUERIES_AT)
    rows = tokens * group
    start = 0
    size = row_group(rows)
    for row in range(rows):
        if row == start + size:
            start = row
            size = row_group(rows - start)
        token = first + row // group
        head = kv_head * group + row % group
        query = word(plan, QKV) + token * word(plan, QKV_STRIDE) + head * head_dim * 4
        turn(plan, query, own, word(layer, Q_NORM), position_of(plan, token))
        scale_row(own, head_dim, word(plan, QUERY_SCALE))
        interleave(own, queries + start * head_dim * 4 + (row - start) * 4, head_dim, size * 4)


def attend_rows(
    plan: int, thread: int, layer_index: int, kv_head: int, block: int, first: int, tokens: int, out: int
) -> None:
    """One block for the gathered rows of `tokens` tokens from `first` on; partials go to `out`."""
    group, head_dim = word(plan, GROUP), word(plan, HEAD_DIM)
    scratch = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE)
    limits, lows = scratch + word(plan, LIMITS_AT), scratch + word(plan, LOWS_AT)
    begin = block * BLOCK
    rows = tokens * group
    for row in range(rows):
        position = position_of(plan, first + row // group)
        store_int32(limits + row * 4, min(BLOCK, max(0, position + 1 - begin)))
        store_int32(lows + row * 4, min(BLOCK, max(0, position + 1 - word(plan, WINDOW) - begin)))
    held = min(BLOCK, position_of(plan, first + tokens - 1) + 1 - begin)
    keys = keys_of(plan, first, layer_index, kv_head) + block * word(plan, KV_BLOCK_BYTES)
    values = values_of(plan, first, layer_index, kv_head) + block * word(plan, KV_BLOCK_BYTES)
    start = 0
    while start < rows:
        size = row_group(rows - start)
        attend(
            word(plan, KV_Q8),
            size,
            scratch + word(plan, QUERIES_AT) + start * head_dim * 4,
            keys,
            values,
            head_dim,
            held,
            limits + start * 4,
            lows + start * 4,
            scratch + word(plan, SCORES_AT),
            out + start * partial_bytes(plan),
            partial_bytes(plan),
        )
        start += size


def row_group(rows: int) -> int:
    """How many rows to attend with at once: one of attention.ROW_COUNTS."""
    if rows >= 8:
        return 8
    return 4 if rows >= 4 else rows


def gather_heads(plan: int, thread: int, token: int, out: int) -> None:
    """A small step: a token's heads from the blocks' partials, merged from first to last."""
    group, head_dim, size = word(plan, GROUP), word(plan, HEAD_DIM), partial_bytes(plan)
    blocks, rows = word(plan, N_BLOCKS), word(plan, N) * word(plan, GROUP)
    total = word(plan, SCRATCH) + thread * word(plan, SCRATCH_STRIDE) + word(plan, TOTALS_AT)
    for kv_head in range(word(plan, N_KV_HEADS)):
        for head in range(group):
            for part in range(blocks):
                partial = (
                    word(plan, PARTIALS) + ((kv_head * blocks + part) * rows + token * group + head) * size
                )
                merge_block(plan, token, word(plan, FIRST_BLOCK) + part, total, partial)
            normalize(total, out + (kv_head * group + head) * head_dim * 4, head_dim)


def partial_bytes(plan: int) -> int:
    return HEAD_BYTES + word(plan, HEAD_DIM) * 4
