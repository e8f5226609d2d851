"""Experiment 7: where keys and values lie, and how often they are copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llama_core.profiling.lab.experiment import Case, Claim, Experiment, LabContext, Part, arrays_match
from llama_core.profiling.synthetic import SMOLLM2_135M as SHAPE

F32 = NDArray[np.float32]
CONTEXTS = (128, 512, 2048)
N_LAYERS = 16  # a step visits all of them: 16 layers at 2,048 positions are 50 MB of keys and values
GROUP = SHAPE.n_heads // SHAPE.n_kv_heads


def softmax(scores: F32) -> F32:
    """Over the last axis, any shape."""
    raised: F32 = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: F32 = raised / raised.sum(axis=-1, keepdims=True)
    return result


def attend_grouped(q: F32, keys: F32, values: F32) -> F32:
    """q: (n_kv_heads, group, head_dim); keys, values: (n_kv_heads, kv_len, head_dim), broadcast over the
    group by the product itself. Returns (n_heads, head_dim)."""
    weights = softmax(np.matmul(q, keys.swapaxes(-1, -2)))
    mixed: F32 = np.matmul(weights, values)
    return mixed.reshape(SHAPE.n_heads, SHAPE.head_dim)


def attend_repeated(q: F32, keys: F32, values: F32) -> F32:
    """The same, shapes and all, after copying each key and value head for its group of queries."""
    keys, values = np.repeat(keys, GROUP, axis=0), np.repeat(values, GROUP, axis=0)
    weights = softmax(np.matmul(q.reshape(SHAPE.n_heads, 1, SHAPE.head_dim), keys.swapaxes(-1, -2)))
    mixed: F32 = np.matmul(weights, values)
    return mixed.reshape(SHAPE.n_heads, SHAPE.head_dim)


def step(attend: Callable[[F32, F32, F32], F32], q: F32, layers: list[tuple[F32, F32]]) -> F32:
    """Attention of one token in every layer; the last layer's result, (n_heads, head_dim)."""
    for keys, values in layers:
        result = attend(q, keys, values)
    return result


def position_major(layers: list[tuple[F32, F32]]) -> list[tuple[F32, F32]]:
    """Head-major views of arrays that hold (kv_len, n_kv_heads, head_dim): a head's keys lie apart."""

    def lay(a: F32) -> F32:
        return np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1)

    return [(lay(keys), lay(values)) for keys, values in layers]


class Concatenated:
    """A cache that makes a new array for every token, as many first versions do.

    Each call appends one position to all layers and drops it again by keeping the old arrays. It returns the
    grown keys and values of the last layer.
    """

    def __init__(self, layers: list[tuple[F32, F32]], row: F32) -> None:
        self.layers, self.row = layers, row

    def __call__(self) -> tuple[F32, F32]:
        """Append a row to each layer in a new array; returns those of the last layer."""
        for keys, values in self.layers:
            grown = np.concatenate((keys, self.row), axis=1), np.concatenate((values, self.row), axis=1)
        return grown


class Preallocated:
    """The same append into room that was made once."""

    def __init__(self, layers: list[tuple[F32, F32]], row: F32) -> None:
        room = np.full_like(row, np.nan)  # which no call may leave there
        self.layers = [
            (np.concatenate((keys, room), axis=1), np.concatenate((values, room), axis=1))
            for keys, values in layers
        ]
        self.row = row

    def __call__(self) -> tuple[F32, F32]:
        """Append a row to each layer in place; returns the arrays of the last layer."""
        for keys, values in self.layers:
            keys[:, -1:] = self.row
            values[:, -1:] = self.row
        return keys, values


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
    rng = np.random.default_rng(7)
    budget_s = context.budget_s / 2
    q = rng.standard_normal((SHAPE.n_kv_heads, GROUP, SHAPE.head_dim), dtype=np.float32) / np.float32(8)
    row = rng.standard_normal((SHAPE.n_kv_heads, 1, SHAPE.head_dim), dtype=np.float32)
    for n in CONTEXTS:
        shape = (SHAPE.n_kv_heads, n, SHAPE.head_dim)
        layers = [
            (rng.standard_normal(shape, dtype=np.float32), rng.standard_normal(shape, dtype=np.float32))
            for _ in range(N_LAYERS)
        ]
        grouped = partial(step, attend_grouped, q, layers)
        yield Case(
            name=f"context {n:,}: broadcast over the group instead of np.repeat",
            before=partial(step, attend_repeated, q, layers),
            after=grouped,
            headline=n == CONTEXTS[-1],
            budget_s=budget_s,
            why="each key and value head is copied for its group of queries before it is read once",
            part=Part(("attention",), SHAPE.n_layers / N_LAYERS, "decode", "default", n),
        )
        yield Case(
            name=f"context {n:,}: head-major instead of position-major",
            before=partial(step, attend_grouped, q, position_major(layers)),
            after=grouped,
            headline=n == CONTEXTS[-1],
            budget_s=budget_s,
            why="a head's keys lie a row of all heads apart: more pages and cache lines for the same bytes",
            part=Part(("attention",), SHAPE.n_layers / N_LAYERS, "decode", "default", n),
        )
        yield Case(
            name=f"context {n:,}: preallocated instead of concatenated cache",
            before=Concatenated(layers, row),
            after=Preallocated(layers, row),
            claim=Claim(2.0),
            # All keys and values of a layer: the appended position alone is what both sides were given.
            check=arrays_match(0.0),
            headline=n == CONTEXTS[-1],
            budget_s=budget_s,
            why="all keys and values of all layers are copied for one new position",
        )


EXPERIMENT = Experiment(
    number=7,
    name="memory",
    title="Memory access: KV layout, repeated heads, growing caches",
    hypothesis="One decode step reads all keys and values once; layouts that break a head's run, copies for "
    "each group of heads and caches that are made anew move the same bytes several times: broadcasting and "
    "head-major layouts are faster at every context, and preallocating at least 2x as fast",
    refuted_if="repeat or position-major is faster at any context, preallocation brings less than 2x, or "
    "the outputs differ (of the grown caches in a single bit)",
    cases=cases,
    processes=3,
)
