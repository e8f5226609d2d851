"""What attention is made of in every step, as each thread runs it. Compiled by Numba (`build.py`).

A row is one query head of one token. Rows that share a key-value head are computed together, as many at
once as there are registers for; blocks of 64 positions and their merge are drawn in `attention.py`.
"""

from __future__ import annotations

from llama_core.backends.jit.control.declarations import (
    attend,
    copy_row,
    interleave,
    merge,
    rms_norm,
    rotate,
    scale_row,
    store_f16,
    store_int32,
    store_q8,
    word,
)
from llama_core.backends.jit.control.fields import (
    COS,
    GROUP,
    HALF,
    HEAD_AT,
    HEAD_DIM,
    HEAD_NUMBERS,
    K_NORM,
    KV_BLOCK_BYTES,
    KV_KIND,
    LIMITS_AT,
    LOOK_AHEAD,
    LOWS_AT,
    N_KV_HEADS,
    Q_NORM,
    QKV,
    QKV_STRIDE,
    QUERIES_AT,
    QUERY_SCALE,
    SCORES_AT,
    SCRATCH,
    SCRATCH_STRIDE,
    SIN,
    TOKENS,
    WINDOW,
)
from llama_core.backends.jit.layout import BLOCK_POSITIONS as BLOCK
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.backends.jit.layout import PARTIAL_HEAD_BYTES as HEAD_BYTES

TOKEN_WORDS = 4
KV_F16, KV_Q8 = KV_KINDS["f16"].code, KV_KINDS["q8"].code


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
    at = block_at(plan, token, layer_index, kv_head, block)
    keys, values = keys_of(plan, token) + at, values_of(plan, token) + at
    kind = word(plan, KV_KIND)
    if kind == KV_Q8:
        scales = BLOCK * head_dim + place * 4
        store_q8(own, keys + place, head_dim, BLOCK, keys + scales)
        store_q8(value, values + place * head_dim, head_dim, 1, values + scales)
    elif kind == KV_F16:
        store_f16(own, keys + place * 2, head_dim, BLOCK * 2)
        store_f16(value, values + place * head_dim * 2, head_dim, 2)
    else:
        interleave(own, keys + place * 4, head_dim, BLOCK * 4)
        copy_row(values + place * head_dim * 4, value, head_dim)


def turn(plan: int, head: int, out: int, norm: int, position: int) -> None:
    """out = a head, normed where the model does that, rotated by its position."""
    head_dim, half = word(plan, HEAD_DIM), word(plan, HALF)
    copy_row(out, head, head_dim)
    if norm:
        padded = (head_dim + 31) // 32 * 32
        for i in range(head_dim, padded):
            store_int32(out + 4 * i, 0)
        rms_norm(out, norm, out, padded, word(plan, HEAD_NUMBERS))
    rotate(out, word(plan, COS) + position * half * 4, word(plan, SIN) + position * half * 4, half)


def position_of(plan: int, token: int) -> int:
    return word(word(plan, TOKENS), TOKEN_WORDS * token)


def keys_of(plan: int, token: int) -> int:
    """The keys in the cache of the token's sequence."""
    return word(word(plan, TOKENS), TOKEN_WORDS * token + 1)


def values_of(plan: int, token: int) -> int:
    return word(word(plan, TOKENS), TOKEN_WORDS * token + 2)


def block_at(plan: int, token: int, layer_index: int, kv_head: int, block: int) -> int:
    """Where a layer's and head's block of positions begins among its token's cached keys, or values."""
    head_bytes = word(word(plan, TOKENS), TOKEN_WORDS * token + 3)
    heads_before = layer_index * word(plan, N_KV_HEADS) + kv_head
    return heads_before * head_bytes + block * word(plan, KV_BLOCK_BYTES)


def merge_rows(plan: int, first: int, tokens: int, block: int, totals: int, results: int) -> None:
    """Add a block's results of all rows of some tokens to their totals."""
    group, size = word(plan, GROUP), partial_bytes(plan)
    for token in range(tokens):
        for head in range(group):
            at = (token * group + head) * size
            merge_block(plan, first + token, block, totals + at, results + at)


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
    at = block_at(plan, first, layer_index, kv_head, block)
    keys, values = keys_of(plan, first) + at, values_of(plan, first) + at
    # A full block is followed by another, which the same thread probably takes next. Where the core fetches
    # weights better alone, so it does these; blocks of 8 bits are too short for it to notice.
    asks = held == BLOCK and (word(plan, LOOK_AHEAD) or word(plan, KV_KIND) == KV_Q8)
    ahead = word(plan, KV_BLOCK_BYTES) if asks else 0
    start = 0
    while start < rows:
        size = row_group(rows - start)
        attend(
            word(plan, KV_KIND),
            size,
            scratch + word(plan, QUERIES_AT) + start * head_dim * 4,
            keys,
            values,
            head_dim,
            held,
            ahead,
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


def partial_bytes(plan: int) -> int:
    return HEAD_BYTES + word(plan, HEAD_DIM) * 4
