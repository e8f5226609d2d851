"""One step: some tokens through some layers, as each thread runs it. Compiled by Numba (`build.py`).

Three ways through the same arithmetic. Many tokens (prefill): see `step_wide.py`. Fewer:

    small (up to 4 tokens of one sequence: decode)      middle (drafts, several sequences)
      qkv        every thread norms and quantises         norm and quantise, token by token
                 the row for itself, then takes           qkv
                 panels of the matrix                     rotate keys, append to the cache
      attention  kv head x block of positions             attention: kv head x a few tokens
      o + x      merges the blocks for itself             quantise
      gate, up   norms and quantises for itself           o + x
      down + x   quantises for itself                     norm and quantise; gate, up; quantise; down + x

Preparing a row takes some 100 ns, less than letting one thread do it and the others wait. So a decoded token
needs five phases a layer, and a middle step ten.
"""

from __future__ import annotations

from llama_core.backends.jit.control.attention_large import append_phase, large_attention_phase
from llama_core.backends.jit.control.attention_small import small_attention_phase
from llama_core.backends.jit.control.declarations import atomic_load, atomic_store, pause, word
from llama_core.backends.jit.control.fields import (
    ALONE,
    ATTENTION_NORM,
    CURRENT,
    DOWN_BIAS,
    DOWN_MATRIX,
    END,
    FFN_NORM,
    FINAL_NORM,
    FIRST_LAYER,
    FIRST_PHASE,
    GATE_UP_BIAS,
    GATE_UP_MATRIX,
    HEAD,
    LAST_LAYER,
    LAYER_WORDS,
    LAYERS,
    LOGITS,
    LOGITS_STRIDE,
    N_LOGITS,
    N_RUNS,
    O_BIAS,
    O_MATRIX,
    QKV,
    QKV_BIAS,
    QKV_MATRIX,
    QKV_STRIDE,
    SHARED,
    SMALL,
    STOP,
    X_STRIDE,
    X,
)
from llama_core.backends.jit.control.products import FINAL, HEADS, HIDDENS, NORMED, gate_up, product
from llama_core.backends.jit.control.schedule import has_work, sleep, wake_helpers
from llama_core.backends.jit.control.wide import wide_layers

SMALL_PHASES, LARGE_PHASES = 5, 10  # per layer
# A helper that has nothing to do looks this often before it sleeps: some 50 us, the caller's pause between
# two layers' worth of bookkeeping, but not a sampler's.
IDLE_LOOKS = 2000


def helper(plan: int, thread: int) -> None:
    """A helper thread's life: join every step, sleep between them, return when told to stop."""
    shared = word(plan, SHARED)
    looks = 0
    while atomic_load(shared + STOP) == 0:
        if has_work(plan):
            step(plan, thread)
            looks = 0
        elif looks < IDLE_LOOKS:
            looks += 1
            pause()
        else:
            sleep(plan, thread)
            looks = 0


def run(plan: int) -> None:
    """Open the planned step, wake the helpers, and do what they leave: what the caller's thread runs."""
    shared = word(plan, SHARED)
    first = atomic_load(shared + CURRENT)
    layers = word(plan, LAST_LAYER) - word(plan, FIRST_LAYER)
    if word(plan, N_RUNS):
        phases = layers + 1
    else:
        phases = layers * (SMALL_PHASES if word(plan, SMALL) else LARGE_PHASES)
    head_phases = 0
    if word(plan, N_LOGITS):
        head_phases = 1 if word(plan, SMALL) else 2
    # In this order: whoever sees the new end, which opens the step, also sees the plan.
    atomic_store(plan + FIRST_PHASE * 8, first)
    atomic_store(shared + END, first + phases + head_phases)
    if atomic_load(shared + ALONE) == 0:
        wake_helpers(plan)
    step(plan, 0)


def step(plan: int, thread: int) -> None:
    """The planned layers for the planned tokens, then the logits where rows of them are asked for."""
    end = atomic_load(word(plan, SHARED) + END)
    phase = word(plan, FIRST_PHASE)
    if word(plan, N_RUNS):
        phase = wide_layers(plan, thread, phase, end)
    else:
        phase = layer_by_layer(plan, thread, phase, end)
    if word(plan, N_LOGITS):
        product(
            plan,
            thread,
            phase,
            end,
            FINAL,
            word(plan, FINAL_NORM),
            word(plan, HEAD),
            word(plan, LOGITS),
            word(plan, LOGITS_STRIDE),
            0,
            0,
        )


def layer_by_layer(plan: int, thread: int, phase: int, end: int) -> int:
    """The layers of a step of few tokens; returns the phase after them."""
    for i in range(word(plan, FIRST_LAYER), word(plan, LAST_LAYER)):
        layer = word(plan, LAYERS) + i * LAYER_WORDS * 8
        x, x_stride = word(plan, X), word(plan, X_STRIDE)
        qkv, qkv_stride = word(plan, QKV), word(plan, QKV_STRIDE)
        phase = product(
            plan,
            thread,
            phase,
            end,
            NORMED,
            word(layer, ATTENTION_NORM),
            word(layer, QKV_MATRIX),
            qkv,
            qkv_stride,
            0,
            word(layer, QKV_BIAS),
        )
        if word(plan, SMALL):
            phase = small_attention_phase(plan, thread, phase, end, layer, i)
        else:
            phase = append_phase(plan, thread, phase, end, layer, i)
            phase = large_attention_phase(plan, thread, phase, end, layer, i)
        o, o_bias = word(layer, O_MATRIX), word(layer, O_BIAS)
        phase = product(plan, thread, phase, end, HEADS, 0, o, x, x_stride, 1, o_bias)
        norm, bias = word(layer, FFN_NORM), word(layer, GATE_UP_BIAS)
        phase = gate_up(plan, thread, phase, end, norm, word(layer, GATE_UP_MATRIX), bias)
        down, down_bias = word(layer, DOWN_MATRIX), word(layer, DOWN_BIAS)
        phase = product(plan, thread, phase, end, HIDDENS, 0, down, x, x_stride, 1, down_bias)
    return phase
