"""What attention is made of, whoever does it: one head's key and value into the cache, queries made ready,
one block of positions attended to, results merged.

A row is one query head of one token. Rows that share a key-value head are computed together, as many at
once as there are registers for; blocks of positions and their merge are drawn in `kernels/attention.py`.
hd is head_dim.
"""

from __future__ import annotations

from llama_core.backends.jit.control.records import (
    TOKEN_BYTES,
    Attention,
    Plan,
    Token,
    Worker,
    rope_at,
    temperature_at,
    token_at,
)
from llama_core.backends.jit.kernels.attention import attend, merge, normalize
from llama_core.backends.jit.kernels.kv_store import (
    interleave,
    interleave_bf16,
    interleave_factors,
    store_bf16,
    store_f16,
    store_q8,
)
from llama_core.backends.jit.kernels.primitives import store_int32
from llama_core.backends.jit.kernels.vector import copy_row, gate_row, rms_norm, rotate, scale_row
from llama_core.backends.jit.layout import BLOCK_POSITIONS as BLOCK
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.backends.jit.layout import PARTIAL_HEAD_BYTES as HEAD_BYTES
from llama_core.backends.jit.prefetch import NEAR

KV_F16, KV_BF16, KV_Q8 = KV_KINDS["f16"].code, KV_KINDS["bf16"].code, KV_KINDS["q8"].code


def token_of(plan: Plan, index: int) -> Token:
    """The step's token number `index`."""
    return token_at(plan.step.tokens + index * TOKEN_BYTES)


def append(plan: Plan, worker: Worker, attention: Attention, kv_head: int, index: int) -> None:
    """A token's key, (hd,) float32, normed and rotated, and its value, (hd,), of one head into the cache."""
    model, token = plan.model, token_of(plan, index)
    head_dim, n_kv_heads = model.head_dim, model.n_kv_heads
    row = model.qkv.at + index * model.qkv.stride
    key = row + (model.group * n_kv_heads * (1 + attention.gated) + kv_head) * head_dim * 4
    value = key + n_kv_heads * head_dim * 4
    own = worker.head
    norm_and_rotate(plan, attention, key, own, attention.k_norm, token)
    place = token.position % BLOCK
    at = block_at(plan, attention, token, kv_head, token.position // BLOCK)
    keys, values = token.keys + at, token.values + at
    if model.kv_kind == KV_Q8:
        scales = BLOCK * head_dim + place * 4
        store_q8(own, keys + place, head_dim, BLOCK, keys + scales)
        store_q8(value, values + place * head_dim, head_dim, 1, values + scales)
    elif model.kv_kind == KV_F16:
        store_f16(own, keys + place * 2, head_dim, BLOCK * 2)
        store_f16(value, values + place * head_dim * 2, head_dim, 2)
    elif model.kv_kind == KV_BF16:
        interleave_bf16(own, keys + place * 4, head_dim, BLOCK * 4)
        store_bf16(value, values + place // 2 * head_dim * 4 + place % 2 * 2, head_dim, 4)
    else:
        interleave(own, keys + place * 4, head_dim, BLOCK * 4)
        copy_row(values + place * head_dim * 4, value, head_dim)


def norm_and_rotate(plan: Plan, attention: Attention, head: int, out: int, norm: int, token: Token) -> None:
    """out = a head, (hd,) float32, normed and rotated by its token's position, as the layer does that."""
    copy_row(out, head, plan.model.head_dim)
    if norm and attention.norms_last == 0:
        norm_head(plan, out, norm)
    if attention.rope:
        rope = rope_at(attention.rope)
        at = token.position * rope.half * 4
        angles = rope.long_angles if token.is_long else rope.angles
        rotate(out, angles.cos + at, angles.sin + at, rope.half)
    if norm and attention.norms_last:
        norm_head(plan, out, norm)


def norm_head(plan: Plan, head: int, norm: int) -> None:
    """A head, (hd,) float32, in place, in memory padded to 32 numbers. norm: address of the weights."""
    head_dim = plan.model.head_dim
    padded = (head_dim + 31) // 32 * 32
    for i in range(head_dim, padded):
        store_int32(head + 4 * i, 0)
    rms_norm(head, norm, head, padded, plan.model.head_numbers)


def block_at(plan: Plan, attention: Attention, token: Token, kv_head: int, block: int) -> int:
    """Where a layer's and head's block of positions begins among its token's cached keys, or values."""
    heads_before = attention.layer * plan.model.n_kv_heads + kv_head
    return heads_before * token.head_bytes + block * plan.model.kv_block_bytes


def first_block_of(plan: Plan, attention: Attention, index: int) -> int:
    """The first block in which a token sees anything."""
    return max(0, token_of(plan, index).position - attention.window + 1) // BLOCK


def gather_queries(
    plan: Plan, worker: Worker, attention: Attention, kv_head: int, first: int, n_tokens: int
) -> None:
    """Norm, rotate and scale the rows of some tokens, and interleave them in groups as `attend` takes them:
    worker.queries, (hd, rows of the group) float32, or pairs of bfloat16, group by group."""
    model = plan.model
    group, head_dim = model.group, model.head_dim
    rows = n_tokens * group
    start = 0
    size = row_group(rows)
    for row in range(rows):
        if row == start + size:
            start = row
            size = row_group(rows - start)
        index = first + row // group
        head = kv_head * group + row % group
        query = query_at(plan, attention, head, index)
        token = token_of(plan, index)
        norm_and_rotate(plan, attention, query, worker.head, attention.q_norm, token)
        scale_row(worker.head, head_dim, attention.query_scale)
        if attention.temperature:
            factors = temperature_at(attention.temperature).factors
            scale_row(worker.head, head_dim, factors + token.position * 4)
        out = worker.queries + start * head_dim * 4 + (row - start) * 4
        if model.kv_kind == KV_BF16:
            interleave_factors(worker.head, out, head_dim, size * 4)
        else:
            interleave(worker.head, out, head_dim, size * 4)


def attend_rows(
    plan: Plan,
    worker: Worker,
    attention: Attention,
    kv_head: int,
    block: int,
    first: int,
    n_tokens: int,
    out: int,
    totals: int,
) -> None:
    """One block for the gathered rows of `n_tokens` tokens from `first` on. Results, a row each, go to `out`,
    or are merged with the totals of the blocks before, where these are not 0; `out` is scratch then."""
    model = plan.model
    group, head_dim = model.group, model.head_dim
    begin = block * BLOCK
    rows = n_tokens * group
    sees_end = token_of(plan, first).position + 1 >= begin + BLOCK
    sees_begin = token_of(plan, first + n_tokens - 1).position + 1 - attention.window <= begin
    limits = 0 if sees_end and sees_begin else worker.limits  # 0: every row sees the whole block
    for row in range(rows if limits else 0):
        position = token_of(plan, first + row // group).position
        store_int32(worker.limits + row * 4, min(BLOCK, max(0, position + 1 - begin)))
        store_int32(worker.lows + row * 4, min(BLOCK, max(0, position + 1 - attention.window - begin)))
    held = min(BLOCK, token_of(plan, first + n_tokens - 1).position + 1 - begin)
    token = token_of(plan, first)
    at = block_at(plan, attention, token, kv_head, block)
    keys, values = token.keys + at, token.values + at
    # A full block is followed by another, which the same thread probably takes next. Where the core fetches
    # weights better alone, while decoding, so it does these; blocks of 8 bits are too short for it to notice.
    asks = held == BLOCK and (plan.step.prefetch_bytes > NEAR or model.kv_kind == KV_Q8)
    ahead = model.kv_block_bytes if asks else 0
    # Where every row sees the block, and has a total, the kernel merges by itself.
    merges = totals and limits == 0 and block > first_block_of(plan, attention, first + n_tokens - 1)
    start = 0
    while start < rows:
        size = row_group(rows - start)
        attend(
            model.kv_kind,
            size,
            worker.queries + start * head_dim * 4,
            keys,
            values,
            head_dim,
            held,
            ahead,
            limits + start * 4 if limits else 0,
            worker.lows + start * 4,
            worker.scores,
            attention.softcap,
            out + start * partial_bytes(plan),
            totals + start * partial_bytes(plan) if merges else 0,
            partial_bytes(plan),
        )
        start += size
    if totals and not merges:
        merge_rows(plan, attention, first, n_tokens, block, totals, out)


def merge_rows(
    plan: Plan, attention: Attention, first: int, n_tokens: int, block: int, totals: int, results: int
) -> None:
    """Add a block's results of all rows of some tokens to their totals."""
    group = plan.model.group
    for token in range(n_tokens):
        at = token * group * partial_bytes(plan)
        merge_block(plan, attention, first + token, block, totals + at, results + at, group)


def merge_block(
    plan: Plan, attention: Attention, index: int, block: int, totals: int, results: int, rows: int
) -> None:
    """Add a block's results of some rows of a token to their totals; the token's first block is the total."""
    begin = first_block_of(plan, attention, index)
    if block == begin:
        copy_row(totals, results, rows * partial_bytes(plan) // 4)
    elif begin < block <= token_of(plan, index).position // BLOCK:
        merge(totals, results, plan.model.head_dim, rows)


def query_at(plan: Plan, attention: Attention, head: int, index: int) -> int:
    """Where a token's query head stands, and behind it its gate where there are gates."""
    row = plan.model.qkv.at + index * plan.model.qkv.stride
    return row + head * (1 + attention.gated) * plan.model.head_dim * 4


def finish_head(plan: Plan, attention: Attention, head: int, index: int, total: int, out: int) -> None:
    """A token's query head, merged, with its sink's share and its gate, to `out`: (hd,) float32."""
    head_dim = plan.model.head_dim
    sink = attention.sinks + head * 4 if attention.sinks else 0
    normalize(total, out, head_dim, sink)
    if attention.gated:
        gate_row(out, query_at(plan, attention, head, index) + head_dim * 4, head_dim)


def row_group(rows: int) -> int:
    """How many rows to attend with at once: one of layout.ROW_COUNTS."""
    if rows >= 8:
        return 8
    return 4 if rows >= 4 else rows


def partial_bytes(plan: Plan) -> int:
    """Bytes of one row's result."""
    return HEAD_BYTES + plan.model.head_dim * 4
