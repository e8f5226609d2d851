"""Layers with a state on the compiled backend: what forms their matrices, where the parts of in_proj's rows
stand, and the records that the compiled step reads.

    ShortConv    b, dim | c, dim | x, dim
    DeltaNet     q, key_dim | k, key_dim | v, out_dim | z, out_dim | b, n_heads | a, n_heads
    Mamba2       z, out_dim | x, out_dim | k, key_dim | q, key_dim | dt, n_heads

Rows that come from different tensors (DeltaNet's q to v, z, b and a) begin with a panel of sixteen each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llama_core.architectures.recurrent import DeltaNet, Mamba2, MatrixMemory, Recurrent, ShortConv
from llama_core.backends.jit.control.records import Convolution, Memory, Rows
from llama_core.backends.jit.layout import PANEL_ROWS, ceil_div

F32_BYTES = 4


def in_tensors(spec: Recurrent) -> list[str]:
    """The tensors whose rows follow each other in the matrix "in"."""
    if isinstance(spec, DeltaNet):
        return ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"]
    return ["in_proj"]


def in_columns(spec: Recurrent) -> int:
    """Numbers of a row of its results."""
    if isinstance(spec, DeltaNet):
        return spec.conv_dim + spec.out_dim + 2 * _panels(spec.n_heads)
    return _panels(spec.in_dim)


def problem_of(spec: Recurrent) -> str | None:
    """Why the kernels cannot run such a layer, or None where they can."""
    sizes = [("the width of a layer with a state", spec.out_dim, 32)]
    if isinstance(spec, MatrixMemory):
        sizes += [("head_dim of a state", spec.head_dim, 16), ("state_dim", spec.state_dim, 16)]
    for name, value, multiple in sizes:
        if value % multiple:
            return f"{name} is {value}; the compiled backend needs a multiple of {multiple}"
    return None


def convolution_of(
    spec: Recurrent, rows: Rows, out: Rows, state: int, vector: Callable[[str], int]
) -> Convolution:
    """rows: in_proj's results; out: of the layer, where a convolution is all that it has; state: the first of
    its numbers among those of all layers; vector: address of a tensor of the layer, 0 for none."""
    convolution = Convolution()
    is_all, first = isinstance(spec, ShortConv), 0
    if isinstance(spec, ShortConv):
        first = 2 * spec.dim
    elif isinstance(spec, Mamba2):
        first = spec.out_dim
    inputs = rows.shifted(F32_BYTES * first)
    convolution.set(
        source=inputs,
        out=out if is_all else inputs,
        gates=F32_BYTES * spec.conv_dim if is_all else 0,
        channels=spec.conv_dim,
        taps=spec.kernel,
        filters=vector("conv"),
        bias=vector("conv.bias"),
        state=F32_BYTES * state,
    )
    return convolution


def memory_of(
    spec: DeltaNet | Mamba2,
    rows: Rows,
    out: Rows,
    state: int,
    vector: Callable[[str], int],
    constant: Callable[[float], int],
    numbers: int,
) -> Memory:
    """As `convolution_of`. constant: address of a float32; numbers: of those of a norm over one head."""
    memory = Memory()
    if isinstance(spec, DeltaNet):
        gate, step = spec.conv_dim, spec.conv_dim + spec.out_dim + _panels(spec.n_heads)
        parts = {"query": 0, "key": spec.key_dim, "value": 2 * spec.key_dim, "gate": gate, "step": step}
        parts |= {"strength": gate + spec.out_dim}
    else:
        key = 2 * spec.out_dim
        query, step = key + spec.key_dim, key + 2 * spec.key_dim
        parts = {"query": query, "key": key, "value": spec.out_dim, "gate": 0, "step": step}
    is_delta = isinstance(spec, DeltaNet)
    memory.set(
        rows=rows,
        out=out,
        is_delta=int(is_delta),
        n_heads=spec.n_heads,
        n_groups=spec.n_groups,
        head_dim=spec.head_dim,
        state_dim=spec.state_dim,
        **{name: F32_BYTES * first for name, first in parts.items()},
        step_bias=vector("dt_bias"),
        decay=vector("decay"),
        query_scale=constant(1.0 / math.sqrt(spec.state_dim)),
        weight=vector("state_norm" if is_delta else "skip"),
        numbers=numbers,
        state=F32_BYTES * state,
    )
    return memory


def _panels(rows: int) -> int:
    """Rows with those that fill the last panel."""
    return PANEL_ROWS * ceil_div(rows, PANEL_ROWS)
