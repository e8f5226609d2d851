"""Attention as threads share it out. What a head is made of is in `heads.py`.

A small step (decode) has few rows and many positions, so threads take blocks of positions; a larger one takes
spans of tokens, whose rows one thread attends with over all their positions.
"""

from __future__ import annotations

from llama_core.backends.jit.control.heads import (
    append,
    attend_rows,
    finish_head,
    first_block_of,
    gather_queries,
    merge_block,
    partial_bytes,
    token_of,
)
from llama_core.backends.jit.control.records import (
    SPAN_BYTES,
    Attention,
    Operation,
    Phase,
    Plan,
    Run,
    Span,
    Worker,
    attention_at,
    span_at,
)
from llama_core.backends.jit.kernels.primitives import atomic_store, word
from llama_core.backends.jit.kernels.vector import copy_row
from llama_core.backends.jit.layout import BLOCK_POSITIONS as BLOCK


def block_items(plan: Plan, phase: Phase) -> int:
    """ATTEND_BLOCKS: each key-value head, with each block of positions that any token sees."""
    return plan.model.n_kv_heads * n_blocks(plan, attention_at(phase.operand))


def attend_blocks(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """ATTEND_BLOCKS: all rows of the step's tokens, a block of positions at a time, into Model.partials.

    Whoever computes a head's first block merges the next ones into it as long as it is the one that computes
    them. The others stay apart until `gather_heads`, so that the order of merging is always the same:

        thread 0 computed | 0 1 2 3 4 |  thread 1 | 5 6 7 |    held: | 0+1+2+3+4 | . . . . | 5 | 6 | 7 |

    The fewer results, the fewer cache lines must go from one core to the other, which takes longest.
    """
    attention = attention_at(phase.operand)
    blocks, n_tokens = n_blocks(plan, attention), plan.step.n_tokens
    for item in range(first, first + count):
        kv_head, part = item // blocks, item % blocks
        if worker.gathered != kv_head:
            worker.gathered = kv_head
            gather_queries(plan, worker, attention, kv_head, 0, n_tokens)
        block = first_block_of(plan, attention, 0) + part
        for token in range(n_tokens):
            if token_of(plan, token).position // BLOCK == block:
                append(plan, worker, attention, kv_head, token)
        folds = part > 0 and item == worker.foldable
        if folds:
            total = results_of(plan, blocks, kv_head, 0)
            attend_rows(plan, worker, attention, kv_head, block, 0, n_tokens, worker.results, total)
        else:
            results = results_of(plan, blocks, kv_head, part)
            attend_rows(plan, worker, attention, kv_head, block, 0, n_tokens, results, 0)
        if folds or part == 0:
            worker.foldable = item + 1
            atomic_store(plan.model.folded + kv_head * 8, part + 1)


def gather_heads(plan: Plan, worker: Worker, attention: Attention, token: int, out: int) -> None:
    """A small step: a token's heads from the blocks' results, merged from first to last.

    out: (n_heads * head_dim,) float32.
    """
    group, head_dim, size = plan.model.group, plan.model.head_dim, partial_bytes(plan)
    blocks, first = n_blocks(plan, attention), first_block_of(plan, attention, 0)
    begin = first_block_of(plan, attention, token) - first
    total = worker.totals
    for kv_head in range(plan.model.n_kv_heads):
        folded = word(plan.model.folded, kv_head)
        for head in range(group):
            row = (token * group + head) * size
            if begin < folded:
                copy_row(total, results_of(plan, blocks, kv_head, 0) + row, size // 4)
            for part in range(folded, blocks):
                result = results_of(plan, blocks, kv_head, part) + row
                merge_block(plan, attention, token, first + part, total, result, 1)
            query_head = kv_head * group + head
            finish_head(plan, attention, query_head, token, total, out + query_head * head_dim * 4)


def n_blocks(plan: Plan, attention: Attention) -> int:
    """A small step: how many blocks of positions its tokens see, together."""
    last = token_of(plan, plan.step.n_tokens - 1).position // BLOCK
    return last + 1 - first_block_of(plan, attention, 0)


def results_of(plan: Plan, blocks: int, kv_head: int, part: int) -> int:
    """A small step's results of one of the blocks, row by row."""
    rows = plan.step.n_tokens * plan.model.group
    return plan.model.partials + (kv_head * blocks + part) * rows * partial_bytes(plan)


def token_items(plan: Plan, phase: Phase) -> int:
    """APPEND_TOKENS: one for each token."""
    return plan.step.n_tokens


def append_tokens(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """APPEND_TOKENS: keys and values of `count` tokens into the cache, before anyone attends to them."""
    for token in range(first, first + count):
        for kv_head in range(plan.model.n_kv_heads):
            append(plan, worker, attention_at(phase.operand), kv_head, token)


def span_items(plan: Plan, phase: Phase) -> int:
    """ATTEND_SPANS: each key-value head, with each span of tokens."""
    return plan.step.n_spans * plan.model.n_kv_heads


def attend_spans(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """ATTEND_SPANS: `count` pairs of a span and a key-value head. Later tokens see more positions; the
    longest work goes first so that threads end together."""
    kv_heads = plan.model.n_kv_heads
    for item in range(first, first + count):
        span = span_of(plan, plan.step.n_spans - 1 - item // kv_heads)
        attend_span(plan, worker, attention_at(phase.operand), item % kv_heads, span)


def append_run(plan: Plan, worker: Worker, operation: Operation, run: Run, begin: int, end: int) -> None:
    """APPEND: keys and values of tokens begin .. end into the cache."""
    for token in range(begin, end):
        for kv_head in range(plan.model.n_kv_heads):
            append(plan, worker, attention_at(operation.operand), kv_head, token)


def attend_run(plan: Plan, worker: Worker, operation: Operation, run: Run, begin: int, end: int) -> None:
    """ATTEND: the run's spans that reach beyond `begin`, over all positions."""
    for i in range(run.first_span, run.first_span + run.n_spans):
        span = span_of(plan, i)
        if span.first + span.n_tokens > begin:
            for kv_head in range(plan.model.n_kv_heads):
                attend_span(plan, worker, attention_at(operation.operand), kv_head, span)


def span_of(plan: Plan, index: int) -> Span:
    """The step's span number `index`."""
    return span_at(plan.step.spans + index * SPAN_BYTES)


def attend_span(plan: Plan, worker: Worker, attention: Attention, kv_head: int, span: Span) -> None:
    """A span's rows of one key-value head over all their positions, into Model.attended."""
    group, head_dim, size = plan.model.group, plan.model.head_dim, partial_bytes(plan)
    first, n_tokens = span.first, span.n_tokens
    gather_queries(plan, worker, attention, kv_head, first, n_tokens)
    last = token_of(plan, first + n_tokens - 1).position // BLOCK
    for block in range(first_block_of(plan, attention, first), last + 1):
        attend_rows(plan, worker, attention, kv_head, block, first, n_tokens, worker.results, worker.totals)
    attended = plan.model.attended
    for token in range(n_tokens):
        index = first + token
        out = attended.at + index * attended.stride
        for head in range(group):
            total, query_head = worker.totals + (token * group + head) * size, kv_head * group + head
            finish_head(plan, attention, query_head, index, total, out + query_head * head_dim * 4)
