"""The kinds of phases: what the items of each are, and what a thread does with those that it claims.

    kind              an item is              a thread
    PREPARE           a row                   packs a product's input into memory that all share
    MULTIPLY          a panel (or a pair)     multiplies it with all rows; in a small step it first packs all
                                              rows for itself: quicker than to wait for another to do it
    APPEND_TOKENS     a token                 brings its keys and values into the cache
    ATTEND_BLOCKS     kv head x a block       appends what is new in the block, attends to it
    ATTEND_SPANS      kv head x some tokens   attends to all positions of these
    NORM_ROWS         a row                   norms it, and adds it to another
    CHOOSE_EXPERTS    a token                 chooses its experts by the router's scores
    PREPARE_VISITS    a token at an expert    as PREPARE
    MULTIPLY_EXPERTS  a panel of each expert  multiplies it with the rows of the expert's tokens; as MULTIPLY
    CONVOLVE_CHANNELS some channels           takes them through all tokens
    RECUR_HEADS       a memory's head         takes it through all tokens
    RUN_TOKENS        a run of tokens         takes it through many operations by itself

A decoded token needs five phases a layer, seven with experts, a step of a few more tokens ten, and a prompt
one: there the threads wait for each other only where attention needs the keys of all tokens before:

    run 0   norm, qkv, append | attention, o, norm, gate, up, down, norm, qkv, append | attention, o, ...
    run 1   norm, qkv, append | attention, o, norm, gate, up, down, norm, qkv, append | attention, o, ...
            layer 0             layer 0                        layer 1

Each run reads all weights, which is cheap: a run's arithmetic takes longer than the reading. Its rows never
leave the caches of its own core. Of experts that does not hold, since a run has few tokens for each: all
threads take these together, and runs end before them. So they do before a layer's state: it takes tokens one
after the other, and what threads can share are its channels and heads.
"""

from __future__ import annotations

from llama_core.backends.jit.control.attention import (
    append_run,
    append_tokens,
    attend_blocks,
    attend_run,
    attend_spans,
    block_items,
    span_items,
    token_items,
)
from llama_core.backends.jit.control.experts import (
    choice_items,
    choose_experts,
    choose_run,
    expert_items,
    multiply_experts,
    prepare_visits,
    visit_items,
)
from llama_core.backends.jit.control.norms import norm_items, norm_rows, norm_run
from llama_core.backends.jit.control.products import (
    multiply_panels,
    multiply_run,
    panel_items,
    prepare_rows,
    row_items,
)
from llama_core.backends.jit.control.records import (
    APPEND,
    APPEND_TOKENS,
    ATTEND,
    ATTEND_BLOCKS,
    ATTEND_SPANS,
    CHOOSE,
    CHOOSE_EXPERTS,
    CONVOLVE_CHANNELS,
    MULTIPLY,
    MULTIPLY_EXPERTS,
    NORM,
    NORM_ROWS,
    OPERATION_BYTES,
    PREPARE,
    PREPARE_VISITS,
    PRODUCT,
    RECUR_HEADS,
    RUN_BYTES,
    RUN_TOKENS,
    Phase,
    Plan,
    Worker,
    operation_at,
    run_at,
)
from llama_core.backends.jit.control.recurrent import (
    channel_items,
    convolve_channels,
    memory_items,
    recur_heads,
)
from llama_core.backends.jit.control.switch import Switch


def run_items(plan: Plan, phase: Phase) -> int:
    """RUN_TOKENS: one for each run."""
    return plan.step.n_runs


def take_runs(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """RUN_TOKENS: `count` runs from `first` on, each through all of the phase's operations."""
    for i in range(first, first + count):
        run = run_at(plan.step.runs + i * RUN_BYTES)
        begin, end = run.first, run.first + run.n_tokens
        if phase.finishes:
            begin = max(begin, plan.step.unfinished)
        if begin < end:
            for k in range(phase.n_operations):
                operation = operation_at(phase.operand + k * OPERATION_BYTES)
                RUN_OPERATION(operation.kind, plan, worker, operation, run, begin, end)


# What one thread does with tokens begin .. end of a run: (plan, worker, operation, run, begin, end).
RUN_OPERATION = Switch(
    "run_operation",
    {PRODUCT: multiply_run, APPEND: append_run, ATTEND: attend_run, NORM: norm_run, CHOOSE: choose_run},
)
# How many items a phase has: (plan, phase).
ITEMS = Switch(
    "items",
    {
        PREPARE: row_items,
        MULTIPLY: panel_items,
        NORM_ROWS: norm_items,
        APPEND_TOKENS: token_items,
        ATTEND_BLOCKS: block_items,
        ATTEND_SPANS: span_items,
        RUN_TOKENS: run_items,
        CHOOSE_EXPERTS: choice_items,
        PREPARE_VISITS: visit_items,
        MULTIPLY_EXPERTS: expert_items,
        CONVOLVE_CHANNELS: channel_items,
        RECUR_HEADS: memory_items,
    },
)
# `count` items of a phase from `first` on: (plan, worker, phase, first, count).
COMPUTE = Switch(
    "compute",
    {
        PREPARE: prepare_rows,
        MULTIPLY: multiply_panels,
        NORM_ROWS: norm_rows,
        APPEND_TOKENS: append_tokens,
        ATTEND_BLOCKS: attend_blocks,
        ATTEND_SPANS: attend_spans,
        RUN_TOKENS: take_runs,
        CHOOSE_EXPERTS: choose_experts,
        PREPARE_VISITS: prepare_visits,
        MULTIPLY_EXPERTS: multiply_experts,
        CONVOLVE_CHANNELS: convolve_channels,
        RECUR_HEADS: recur_heads,
    },
)
