"""Experiment 8: many sequences in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llama_core.backend import Cache, Model
from llama_core.engine.batch import BatchModel
from llama_core.profiling.experiment import (
    Case,
    Claim,
    Experiment,
    LabContext,
    NotMeasured,
    Row,
    arrays_match,
)
from llama_core.profiling.experiments.models import NO_MODEL, default_checkpoint, fill, models, token_ids

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXT = 32

F32 = NDArray[np.float32]
Rows = list[tuple[NDArray[np.int32], Cache]]


def one_by_one(model: Model, rows: Rows) -> F32:
    """A token of each sequence, a pass for each."""
    return np.stack([model.forward(ids, cache).copy() for ids, cache in rows])


def together(model: BatchModel, rows: Rows) -> F32:
    """A token of each sequence in one pass."""
    return model.forward_batch(rows).copy()


def forget(rows: Rows) -> None:
    """Take the last token back, so that every run does the same work."""
    for _, cache in rows:
        cache.truncate(CONTEXT)


def claim(backend: str, batch: int) -> Claim:
    if batch == 1:
        return Claim(0.8, 1.25)
    return Claim(3.0) if batch >= 16 and backend == "numpy" else Claim(1.0)


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("batches of 1 to 64", NO_MODEL)
        return
    for name, model in models(context, checkpoint):
        if not isinstance(model, BatchModel):
            yield NotMeasured(f"{name}, batches of 1 to 64", "this backend takes one sequence a pass")
            continue
        caches = [model.new_cache(CONTEXT + 1) for _ in range(max(BATCHES))]
        for i, cache in enumerate(caches):
            fill(model, cache, token_ids(CONTEXT, model.config.vocab_size, seed=i))
        firsts = token_ids(len(caches), model.config.vocab_size, seed=99)
        for batch in BATCHES:
            rows = [(firsts[i : i + 1], caches[i]) for i in range(batch)]
            yield Case(
                name=f"{name}, batch {batch}",
                before=partial(one_by_one, model, rows),
                after=partial(together, model, rows),
                claim=claim(name, batch),
                # One order of accumulation: the compiled backend promises the same bits.
                check=arrays_match(1e-4 if name == "numpy" else 0.0),
                work=batch,
                unit="tok",
                prepare=partial(forget, rows),
                headline=batch == 16,
            )


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """The cost model of a step, fitted: fixed + batch * each."""
    sentences = []
    for backend in ("numpy", "jit"):
        found = [row for row in rows if row.name.startswith(backend + ",") and row.after_s is not None]
        points = [(row.work, row.after_s.median) for row in found if row.after_s is not None]
        if len(points) < 3:
            continue
        batches, seconds = np.array(points).T
        # Weighted by the time itself: relative errors count alike at 1 and at 64.
        each, fixed = np.polyfit(batches, seconds, 1, w=1 / seconds)
        worst = max(points, key=lambda p: abs(np.log(p[1] / (fixed + each * p[0]))))
        off = worst[1] / (fixed + each * worst[0])
        best = max(points, key=lambda p: p[0] / p[1])
        step = f"{fixed * 1e3:.1f} ms and {each * 1e3:.2f} ms for each sequence"
        departure = f"batch {worst[0]:.0f} departs most, at {off:.2f} of that"
        rate = f"{best[0] / best[1]:,.0f} tok/s at batch {best[0]:.0f}"
        sentences.append(f"{backend}: a step takes {step}; {departure}; the best rate is {rate}")
    return sentences


EXPERIMENT = Experiment(
    number=8,
    name="batching",
    title="Batched decoding, 1 to 64 sequences",
    hypothesis="Decoding reads every weight for each token; sequences that share a pass share the reading, "
    "so that 16 of them decode at least 3 times as fast as one after another on NumPy",
    refuted_if="16 or more sequences gain less than 3x on NumPy, or any logits differ (on the compiled "
    "backend in a single bit)",
    cases=cases,
    conclude=conclude,
)
