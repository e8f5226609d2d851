"""Norms that stand by themselves: behind a sub-layer, or over all heads of q or k together.

A norm before a product belongs to that product, which makes its input ready with it (`products.py`).
"""

from __future__ import annotations

from llama_core.backends.jit.control.records import Norm, Operation, Phase, Plan, Run, Worker, norm_at
from llama_core.backends.jit.kernels.vector import add_row, copy_row, rms_norm, scale_row


def norm_items(plan: Plan, phase: Phase) -> int:
    """NORM_ROWS: one for each token."""
    return plan.step.n_tokens


def norm_rows(plan: Plan, worker: Worker, phase: Phase, first: int, count: int) -> None:
    """NORM_ROWS: `count` rows from `first` on."""
    for row in range(first, first + count):
        norm_row(worker, norm_at(phase.operand), row)


def norm_run(plan: Plan, worker: Worker, operation: Operation, run: Run, begin: int, end: int) -> None:
    """NORM: rows begin .. end."""
    for row in range(begin, end):
        norm_row(worker, norm_at(operation.operand), row)


def norm_row(worker: Worker, norm: Norm, row: int) -> None:
    """One row, (norm.width,) float32: normed, scaled, and put or added where it belongs."""
    source = norm.source.at + row * norm.source.stride
    out = norm.out.at + row * norm.out.stride
    result = worker.row if norm.adds else out
    if norm.weight:
        rms_norm(source, norm.weight, result, norm.width, norm.numbers)
    elif result != source:
        copy_row(result, source, norm.width)
    if norm.scale:
        scale_row(result, norm.width, norm.scale)
    if norm.adds:
        add_row(out, result, norm.width)
