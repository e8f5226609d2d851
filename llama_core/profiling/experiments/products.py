"""Experiment 6: matrix products, the nine tenths of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from llama_core.profiling.experiment import FASTER, Case, Claim, Experiment, LabContext
from llama_core.profiling.synthetic import SMOLLM2_135M as SHAPE

F32 = NDArray[np.float32]

# As many distinct layers as overflow the last-level cache, as a real model's do: a product repeated on one
# matrix would be served from the cache and show nothing.
N_LAYERS = 12


def matrices(rng: np.random.Generator, n: int, rows: int, columns: int) -> list[F32]:
    return [rng.standard_normal((rows, columns), dtype=np.float32) for _ in range(n)]


class Rotation:
    """Calls `product` with the next layer's arguments each time, in a circle."""

    def __init__(self, product: Callable[..., Any], layers: list[tuple[Any, ...]]) -> None:
        self.product = product
        self.layers = layers

    def __call__(self) -> Any:
        """All layers once; the last one's result."""
        for arguments in self.layers:
            result = self.product(*arguments)
        return result


def separate(x: F32, *weights: F32) -> F32:
    return np.concatenate([x @ w.T for w in weights], axis=-1)


def fused(x: F32, weight: F32) -> F32:
    result: F32 = x @ weight.T
    return result


def into(x: F32, weight: F32, out: F32) -> F32:
    return np.matmul(x, weight.T, out=out)


def transposed(x: F32, weight: F32) -> F32:
    """weight: (in, out), used as it stands."""
    result: F32 = x @ weight
    return result


def reversed_order(x: F32, weight: F32) -> F32:
    """The same product as weight @ x.T: the BLAS then packs x, not the weights."""
    result: F32 = (weight @ x.T).T
    return result


def matvec(x: F32, weight: F32) -> F32:
    row: F32 = np.dot(weight, x[0])
    return row[None]


def fusion_cases(rng: np.random.Generator, n: int, budget_s: float) -> Iterator[Case]:
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    for name, parts in (
        ("QKV", (SHAPE.q_dim, SHAPE.kv_dim, SHAPE.kv_dim)),
        ("gate and up", (SHAPE.hidden_dim, SHAPE.hidden_dim)),
    ):
        whole = matrices(rng, N_LAYERS, sum(parts), SHAPE.dim)
        split = [np.split(w, np.cumsum(parts)[:-1]) for w in whole]
        yield Case(
            name=f"{name} fused, {n} {'row' if n == 1 else 'rows'}",
            before=Rotation(separate, [(x, *pieces) for pieces in split]),
            after=Rotation(fused, [(x, w) for w in whole]),
            work=n * N_LAYERS,
            unit="row",
            headline=n == 1,
            budget_s=budget_s,
        )


def form_cases(rng: np.random.Generator, n: int, budget_s: float) -> Iterator[Case]:
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    weights = matrices(rng, N_LAYERS, 2 * SHAPE.hidden_dim, SHAPE.dim)
    flipped = [np.ascontiguousarray(w.T) for w in weights]
    fortran = [np.asfortranarray(w) for w in weights]
    out = np.empty((n, 2 * SHAPE.hidden_dim), np.float32)
    plain = Rotation(fused, [(x, w) for w in weights])
    afters: dict[str, tuple[Rotation, Claim]] = {
        "out= instead of a new array": (Rotation(into, [(x, w, out) for w in weights]), Claim(0.97)),
        "transposed copy (in, out) instead of rows": (
            Rotation(transposed, [(x, w) for w in flipped]),
            Claim(0.0, 1.0) if n == 1 else Claim(0.9, 1.1),
        ),
        "Fortran instead of C order": (
            Rotation(fused, [(x, w) for w in fortran]),
            Claim(0.0, 1.0) if n == 1 else Claim(0.9, 1.1),
        ),
    }
    if n > 1:
        afters["weight @ x.T instead of x @ weight.T"] = (
            Rotation(reversed_order, [(x, w) for w in weights]),
            FASTER,
        )
    else:
        afters["matvec instead of gemm"] = (Rotation(matvec, [(x, w) for w in weights]), FASTER)
    for name, (after, claim) in afters.items():
        yield Case(
            name=f"{name}, {n} rows" if n > 1 else f"{name}, 1 row",
            before=plain,
            after=after,
            claim=claim,
            work=n * N_LAYERS,
            unit="row",
            headline=n == 16 and after.product is reversed_order,
            budget_s=budget_s,
        )


def with_threads(threads: int, call: Callable[[], Any]) -> Any:
    with threadpool_limits(threads, user_api="blas"):
        return call()


def thread_cases(rng: np.random.Generator, budget_s: float) -> Iterator[Case]:
    weights = matrices(rng, N_LAYERS, 2 * SHAPE.hidden_dim, SHAPE.dim)
    small = matrices(rng, N_LAYERS, 288, 288)
    for label, layers, n, claim in (
        ("1 row, SmolLM2 gate-up", weights, 1, FASTER),
        ("128 rows, SmolLM2 gate-up", weights, 128, Claim(1.5)),
        ("1 row, stories15M query", small, 1, Claim(0.0, 1.1)),
    ):
        x = rng.standard_normal((n, layers[0].shape[1]), dtype=np.float32)
        call = Rotation(fused, [(x, w) for w in layers])
        yield Case(
            name=f"2 BLAS threads instead of 1, {label}",
            before=partial(with_threads, 1, call),
            after=partial(with_threads, 2, call),
            claim=claim,
            work=n * N_LAYERS,
            unit="row",
            headline=n == 128,
            budget_s=budget_s,
        )


def cases(context: LabContext) -> Iterator[Case]:
    rng = np.random.default_rng(6)
    budget_s = context.budget_s / 2
    for n in (1, 16, 128):
        yield from fusion_cases(rng, n, budget_s)
        yield from form_cases(rng, n, budget_s)
    yield from thread_cases(rng, budget_s)


EXPERIMENT = Experiment(
    number=6,
    name="products",
    title="Matrix products: fusion, order, out=, threads",
    hypothesis="Fewer and longer products are faster; for one row, rows read from start to end (C order, "
    "matvec) beat every other layout; for a few rows the order of the two matrices decides what the BLAS "
    "packs; a second thread pays for large matrices only",
    refuted_if="a fused product is slower than its parts, a transposed layout wins for one row, weight @ x.T "
    "is no faster, or a second thread brings less than 1.5x at 128 rows",
    cases=cases,
)
