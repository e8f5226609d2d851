"""Layers with a state as threads share them out: channels of a convolution, heads of a memory.

Each depends on no other, and takes all of the step's tokens, those of a text in their order. A text's state
before the step is read, and the one behind it written elsewhere, so that a step that is not finished changes
nothing (`backends/states.py`).
"""

from __future__ import annotations

from llama_core.backends.jit.control.heads import token_of
from llama_core.backends.jit.control.records import (
    Convolution,
    Memory,
    Phase,
    Plan,
    Token,
    Worker,
    convolution_at,
    memory_at,
)
from llama_core.backends.jit.kernels.recurrent import convolve, fade, gate_memory, recur

CHANNELS = 128  # of an item: a line of the cache has sixteen, and a claim costs as much as some of them


def channel_items(plan: Plan, phase: Phase) -> int:
    """CONVOLVE_CHANNELS: one for each CHANNELS channels."""
    return (convolution_at(phase.operand).channels + CHANNELS - 1) // CHANNELS


def convolve_channels(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """CONVOLVE_CHANNELS: `count` items from `first` on, of all tokens."""
    convolution = convolution_at(phase.operand)
    begin, end = first * CHANNELS, min((first + count) * CHANNELS, convolution.channels)
    index = 0
    while index < plan.step.n_tokens:
        token = token_of(plan, index)
        convolve_text(worker, convolution, begin, end, index, token)
        index += token.left


def convolve_text(
    worker: Worker, convolution: Convolution, begin: int, end: int, index: int, token: Token
) -> None:
    """Channels begin .. end of a text. index, token: the step's first token of it."""
    source, out, at = convolution.source, convolution.out, begin * 4
    state = convolution.state + at
    convolve(
        1 if convolution.gates else 0,
        source.at + index * source.stride + at,
        source.stride,
        convolution.gates,
        out.at + index * out.stride + at,
        out.stride,
        end - begin,
        convolution.channels * 4,
        convolution.taps,
        convolution.filters + at,
        convolution.bias + at if convolution.bias else 0,
        token.state + state,
        token.next_state + state,
        token.left,
        worker.inputs,
    )


def memory_items(plan: Plan, phase: Phase) -> int:
    """RECUR_HEADS: one for each head."""
    return memory_at(phase.operand).n_heads


def recur_heads(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """RECUR_HEADS: `count` heads from `first` on, of all tokens."""
    for head in range(first, first + count):
        index = 0
        while index < plan.step.n_tokens:
            token = token_of(plan, index)
            recur_text(worker, memory_at(phase.operand), head, index, token)
            index += token.left


def recur_text(worker: Worker, memory: Memory, head: int, index: int, token: Token) -> None:
    """One head of a text. index, token: the step's first token of it."""
    rule, rows, n = memory.is_delta, memory.rows.at + index * memory.rows.stride, token.left
    stride, state_dim, head_dim = memory.rows.stride, memory.state_dim, memory.head_dim
    group = head % memory.n_groups if rule else head * memory.n_groups // memory.n_heads
    query = rows + memory.query + group * state_dim * 4
    key = rows + memory.key + group * state_dim * 4
    value = rows + memory.value + head * head_dim * 4
    fade(
        rule,
        rows + memory.step + head * 4,
        rows + memory.strength + head * 4,
        query,
        key,
        stride,
        memory.step_bias + head * 4,
        memory.decay + head * 4,
        memory.query_scale,
        state_dim,
        n,
        worker.factors,
    )
    state = memory.state + head * state_dim * head_dim * 4
    out = memory.out.at + index * memory.out.stride + head * head_dim * 4
    recur(
        rule,
        query,
        key,
        value,
        stride,
        worker.factors,
        token.state + state,
        token.next_state + state,
        state_dim,
        head_dim,
        n,
        out,
        memory.out.stride,
    )
    gate_memory(
        rule,
        out,
        memory.out.stride,
        value,
        rows + memory.gate + head * head_dim * 4,
        stride,
        memory.weight + (0 if rule else head * 4),
        memory.numbers,
        head_dim,
        n,
    )
