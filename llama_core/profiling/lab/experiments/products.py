"""Experiment 6: matrix products, the nine tenths of the work.

Each row asks the BLAS for something else:

- transposed weights: (in, out) in memory instead of the file's (out, in). A weight matrix in Fortran order is
  the same bytes as its transpose in C order, so for weights the two are one thing, measured once;
- Fortran order: of activations and result, feature by feature instead of token by token, as a model keeps
  them that carries (dim, n) from layer to layer. A single row has no order to choose;
- gemm for one row: NumPy hands every product with a dimension of 1 to gemv (`FLOAT_matmul` in its
  matmul.c.src), `x @ weight.T` and `np.dot` alike. So the row is padded to two, of which the second is thrown
  away. That is a gemm: gdb stops in cblas_sgemm, and perf finds half of the time where it packs the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from llama_core.profiling.lab.experiment import (
    FASTER,
    SLOWER,
    Case,
    Claim,
    Experiment,
    LabContext,
    Match,
    Row,
    arrays_match,
)
from llama_core.profiling.synthetic import SMOLLM2_135M as SHAPE

F32 = NDArray[np.float32]

# As many distinct layers as overflow the last-level cache, as a real model's do: a product repeated on one
# matrix would be served from the cache and show nothing.
N_LAYERS = 12

TRANSPOSED = "transposed weights (in, out) instead of (out, in)"


def matrices(rng: np.random.Generator, n: int, rows: int, columns: int) -> list[F32]:
    """n of them, (rows, columns) float32."""
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


def separate(x: F32, *weights: F32) -> list[F32]:
    """x: (n, in), weights: (out, in); a part of (n, out) each, as who computes them one by one uses them."""
    return [x @ w.T for w in weights]


def parts_match(before: Any, after: Any) -> Match:
    """The parts put side by side, outside the clock, against the whole."""
    return arrays_match()(np.concatenate(before, axis=-1), after)


def fused(x: F32, weight: F32) -> F32:
    """x: (n, in), weight: (out, in), as files hold it; (n, out)."""
    result: F32 = x @ weight.T
    return result


def into(x: F32, weight: F32, out: F32) -> F32:
    """x: (n, in), weight: (out, in), out: (n, out), which is returned."""
    return np.matmul(x, weight.T, out=out)


def transposed(x: F32, weight: F32) -> F32:
    """weight: (in, out), used as it stands."""
    result: F32 = x @ weight
    return result


def by_columns(x: F32, weight: F32) -> F32:
    """As `fused`; x is in Fortran order, and so is the result."""
    out: F32 = np.empty((len(x), len(weight)), np.float32, order="F")
    return np.matmul(x, weight.T, out=out)


def reversed_order(x: F32, weight: F32) -> F32:
    """As `fused`, but as weight @ x.T: the BLAS then packs x, not the weights."""
    result: F32 = (weight @ x.T).T
    return result


def padded_gemm(two_rows: F32, weight: F32) -> F32:
    """two_rows: (2, in); (1, out), the first row's."""
    result: F32 = (two_rows @ weight.T)[:1]
    return result


def matvec(x: F32, weight: F32) -> F32:
    """x: (1, in), weight: (out, in); (1, out)."""
    row: F32 = np.dot(weight, x[0])
    return row[None]


WHY: dict[Callable[..., Any], str] = {
    into: "the result is small beside the weights, and malloc gives its pages back again and again",
    transposed: "gemv over (in, out) reads and writes the result once for each column; a gemm packs either",
    by_columns: "the BLAS counts columns: in this order it packs the few numbers of x, not the weights",
    reversed_order: "the BLAS packs the second matrix: x, which is small, instead of the weights",
    matvec: "gemv reads each weight once; a gemm packs it first, and multiplies a row of zeros",
}


def rows_of(n: int) -> str:
    """As rows' names have it."""
    return "1 row" if n == 1 else f"{n} rows"


def fusion_cases(rng: np.random.Generator, n: int, budget_s: float) -> Iterator[Case]:
    """Parts of one width computed one by one and as one product, for n rows of x."""
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    for name, parts in (
        ("QKV", (SHAPE.q_dim, SHAPE.kv_dim, SHAPE.kv_dim)),
        ("gate and up", (SHAPE.hidden_dim, SHAPE.hidden_dim)),
    ):
        whole = matrices(rng, N_LAYERS, sum(parts), SHAPE.dim)
        split = [np.split(w, np.cumsum(parts)[:-1]) for w in whole]
        yield Case(
            name=f"{name} fused instead of separate, {rows_of(n)}",
            before=Rotation(separate, [(x, *pieces) for pieces in split]),
            after=Rotation(fused, [(x, w) for w in whole]),
            check=parts_match,
            work=n * N_LAYERS,
            unit="row",
            headline=n == 1,
            budget_s=budget_s,
            why="x is packed once and a call made once; the weights' bytes are the same",
        )


def form_cases(rng: np.random.Generator, n: int, budget_s: float) -> Iterator[Case]:
    """The gate-up product in other forms."""
    x = rng.standard_normal((n, SHAPE.dim), dtype=np.float32)
    weights = matrices(rng, N_LAYERS, 2 * SHAPE.hidden_dim, SHAPE.dim)
    flipped = [np.ascontiguousarray(w.T) for w in weights]
    out = np.empty((n, 2 * SHAPE.hidden_dim), np.float32)
    plain = Rotation(fused, [(x, w) for w in weights])
    into_out = Rotation(into, [(x, w, out) for w in weights])
    turned = Rotation(transposed, [(x, w) for w in flipped])
    forms: list[tuple[str, Rotation, Rotation, Claim]] = [
        ("out= instead of a new array", plain, into_out, Claim(0.97)),
        (TRANSPOSED, plain, turned, SLOWER if n == 1 else Claim(0.9, 1.1)),
    ]
    if n == 1:
        two_rows = np.concatenate((x, np.zeros_like(x)))
        gemm = Rotation(padded_gemm, [(two_rows, w) for w in weights])
        gemv = Rotation(matvec, [(x, w) for w in weights])
        forms.append(("matvec instead of a gemm over two rows, one of them padding", gemm, gemv, FASTER))
    else:
        columns = np.asfortranarray(x)
        by_column = Rotation(by_columns, [(columns, w) for w in weights])
        forms.append(("Fortran instead of C order for activations and result", plain, by_column, FASTER))
        swapped = Rotation(reversed_order, [(x, w) for w in weights])
        forms.append(("weight @ x.T instead of x @ weight.T", plain, swapped, FASTER))
    for name, before, after, claim in forms:
        yield Case(
            name=f"{name}, {rows_of(n)}",
            before=before,
            after=after,
            claim=claim,
            work=n * N_LAYERS,
            unit="row",
            headline=n == 16 and after.product is reversed_order,
            budget_s=budget_s,
            why=WHY[after.product],
        )


def with_threads(threads: int, call: Callable[[], Any]) -> Any:
    """`call()` with so many BLAS threads."""
    with threadpool_limits(threads, user_api="blas"):
        return call()


def thread_cases(rng: np.random.Generator, budget_s: float) -> Iterator[Case]:
    """The same products with two BLAS threads and with one."""
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
            why="rows are shared out between the threads; a small product waits for the second one to wake",
        )


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
    rng = np.random.default_rng(6)
    budget_s = context.budget_s / 2
    for n in (1, 16, 128):
        yield from fusion_cases(rng, n, budget_s)
        yield from form_cases(rng, n, budget_s)
    yield from thread_cases(rng, budget_s)


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """What the engine does about the order of weights, whichever wins here."""
    measured = [
        f"{row.ratio.value:.2f} ({row.ratio.low:.2f} to {row.ratio.high:.2f}) times as fast for {name}"
        for row in rows
        if row.ratio is not None and (name := row.name.removeprefix(f"{TRANSPOSED}, ")) != row.name
    ]
    if not measured:
        return []
    sentence = (
        f"transposed weights were {', '.join(measured)} on this machine; which order wins depends on it. The "
        "engine keeps the files' order (out, in) everywhere: the file's blocks run along a row, so that each "
        "is written at load where it stays and nothing is turned round, and a head that is tied to the "
        "embedding table, whose rows are looked up, needs no second copy"
    )
    return [sentence]


EXPERIMENT = Experiment(
    number=6,
    name="products",
    title="Matrix products: fusion, order, out=, threads",
    hypothesis="Fewer and longer products are faster; writing into an array made before costs nothing "
    "(0.97x or more); for one row, weights read from start to end by gemv beat transposed ones and a gemm, "
    "and for more rows transposed weights make no difference (0.9x to 1.1x); for several rows the order of "
    "the two matrices, and of the numbers in the smaller, decides what the BLAS packs: weight @ x.T and "
    "Fortran order are faster; a second thread pays for large matrices, at 128 rows at least 1.5x, and "
    "brings a small one no more than a tenth",
    refuted_if="a fused product is slower than its parts, out= costs more than 3 %, transposed weights or a "
    "gemm win for one row, transposed weights change more than a tenth for 16 or 128, weight @ x.T or "
    "Fortran order is slower, a second thread slows one row of a large matrix down, brings less than 1.5x at "
    "128 rows or more than 1.1x to a small matrix, or outputs differ by more than 1e-4 of the largest value",
    cases=cases,
    conclude=conclude,
    processes=3,
)
