"""Experiment 8: many sequences in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import BatchModel, Cache, Model
from llama_core.profiling.lab.experiment import (
    Case,
    Claim,
    Experiment,
    LabContext,
    NotMeasured,
    Row,
    arrays_match,
)
from llama_core.profiling.lab.experiments.fits import batch_fit, points_of
from llama_core.profiling.lab.experiments.limits import Roofline, roofline_of
from llama_core.profiling.lab.experiments.models import NO_MODEL, default_checkpoint, fill, models, token_ids

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXT = 32
# Tokens of each prompt where several share a pass: four of them fill one of the compiled backend.
PROMPT = 32
SHARED = "a pass reads every weight once, for all its sequences"

F32 = NDArray[np.float32]
Rows = list[tuple[NDArray[np.int32], Cache]]


def one_by_one(model: Model, rows: Rows) -> F32:
    """The tokens of each sequence (one, or a prompt), a pass for each."""
    return np.stack([model.forward(ids, cache).copy() for ids, cache in rows])


def together(model: BatchModel, rows: Rows) -> F32:
    """The tokens of all sequences in one pass; the last logits of each, (n, vocab_size)."""
    return model.forward_batch(rows).copy()


def forget(rows: Rows, n_context: int) -> None:
    """Take back what was put behind `n_context` tokens, so that every run does the same work."""
    for _, cache in rows:
        cache.truncate(n_context)


def claim(backend: str, batch: int) -> Claim:
    """What the hypothesis says of so many sequences a pass."""
    if batch == 1:
        return Claim(0.8, 1.25)
    return Claim(3.0) if batch >= 16 and backend == "numpy" else Claim(1.0)


def batch_cases(
    name: str,
    model: Model,
    batches: Sequence[int],
    n_context: int,
    roof: Roofline,
    budget_s: float = 0.0,
) -> Iterator[Case | NotMeasured]:
    """One token of each of so many sequences behind `n_context` tokens: one by one, and in one pass.

    name: "numpy" or "jit", which begins the rows' names.
    """
    if not isinstance(model, BatchModel):
        yield NotMeasured(f"{name}, batches", "this backend takes one sequence a pass")
        return
    caches = [model.new_cache(n_context + 1) for _ in range(max(batches))]
    for i, cache in enumerate(caches):
        fill(model, cache, token_ids(n_context, model.config.vocab_size, seed=i))
    firsts = token_ids(len(caches), model.config.vocab_size, seed=99)
    for batch in batches:
        rows = [(firsts[i : i + 1], caches[i]) for i in range(batch)]
        yield Case(
            name=f"{name}, batch {batch} behind {n_context} tokens",
            before=partial(one_by_one, model, rows),
            after=partial(together, model, rows),
            claim=claim(name, batch),
            # One order of accumulation: the compiled backend promises the same bits.
            check=arrays_match(1e-4 if name == "numpy" else 0.0),
            work=batch,
            unit="tok",
            prepare=partial(forget, rows, n_context),
            headline=batch == 16 and n_context == CONTEXT,
            budget_s=budget_s,
            why=SHARED if batch > 1 else "nothing is shared: the same pass, with a batch's bookkeeping",
            limit_s=roof.batch_s(batch, n_context),
        )


def prompt_cases(
    name: str, model: Model, counts: Sequence[int], roof: Roofline, budget_s: float = 0.0
) -> Iterator[Case | NotMeasured]:
    """So many prompts of PROMPT tokens: one after another, and in one pass."""
    if not isinstance(model, BatchModel):
        yield NotMeasured(f"{name}, prompts together", "this backend takes one sequence a pass")
        return
    for count in counts:
        rows: Rows = [
            (token_ids(PROMPT, model.config.vocab_size, seed=i), model.new_cache(PROMPT))
            for i in range(count)
        ]
        yield Case(
            name=f"{name}, {count} prompts of {PROMPT} tokens in one pass instead of one after another",
            before=partial(one_by_one, model, rows),
            after=partial(together, model, rows),
            check=arrays_match(1e-4 if name == "numpy" else 0.0),
            work=count * PROMPT,
            unit="tok",
            prepare=partial(forget, rows, 0),
            headline=count == max(counts),
            budget_s=budget_s,
            why=SHARED,
            limit_s=roof.prefill_s(count * PROMPT),
        )


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("batches of 1 to 64", NO_MODEL)
        return
    for name, model in models(context, checkpoint):
        yield from batch_cases(name, model, BATCHES, CONTEXT, roofline_of(context, name, checkpoint))


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """The cost model of a step, fitted: fixed + batch * each."""
    sentences = []
    for backend in ("numpy", "jit"):
        points = points_of(rows, backend, "batch")
        if len(points) < 3:
            continue
        best = max(points, key=lambda p: p[0] / p[1])
        rate = f"{best[0] / best[1]:,.0f} tok/s at batch {best[0]:.0f}"
        sentences.append(f"{backend}: {batch_fit(points)}; the best rate is {rate}")
    return sentences


EXPERIMENT = Experiment(
    number=8,
    name="batching",
    title="Batched decoding: 1 to 64 sequences",
    hypothesis="Decoding reads every weight for each token; sequences that share a pass share the reading, "
    "so that several decode faster than one after another, and 16 and more of them at least 3 times as fast "
    "on NumPy; a batch of 1 shares nothing and gains nothing (0.8x to 1.25x)",
    refuted_if="a batch is slower than its sequences one by one, 16 or more gain less than 3x on NumPy, a "
    "batch of 1 leaves 0.8x to 1.25x, or any logits differ (on the compiled backend in a single bit)",
    cases=cases,
    conclude=conclude,
    processes=2,
    whole=True,
)
