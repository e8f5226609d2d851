"""Experiment 10: how prefill and decode grow with sequence and batch, and where the cost model fails."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backend import Cache, Model
from llama_core.profiling.bandwidth import read_bandwidth
from llama_core.profiling.experiment import (
    Case,
    Check,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Row,
    arrays_match,
)
from llama_core.profiling.experiments.batching import batch_cases
from llama_core.profiling.experiments.fits import (
    Roofline,
    batch_sentence,
    decode_sentence,
    points_of,
    prefill_sentence,
)
from llama_core.profiling.experiments.models import NO_MODEL, default_checkpoint, fill, models, token_ids
from llama_core.profiling.integer_peak import integer_peak
from llama_core.profiling.roofline import float32_peak, token_cost

LENGTHS = (16, 64, 256, 1024, 2048)
SMALL_CHUNK = 16
# Experiment 8 has every size behind a shorter context; these are enough for a fit.
BATCHES = (1, 4, 16, 64)
BATCH_CONTEXT = 64

F32 = NDArray[np.float32]


def prefill(model: Model, cache: Cache, ids: NDArray[np.int32], chunk: int) -> F32:
    """The whole prompt from an empty cache, `chunk` tokens a pass; the logits after it."""
    cache.truncate(0)
    logits: F32 = np.empty(0, np.float32)
    for start in range(0, len(ids), chunk):
        stop = min(start + chunk, len(ids))
        logits = model.forward(ids[start:stop], cache, logits="last" if stop == len(ids) else "none")
    return logits.copy()


class Decoding:
    """One token behind `context` others; the cache is as before afterwards."""

    def __init__(self, model: Model, ids: NDArray[np.int32], context: int) -> None:
        self.model, self.context = model, context
        self.token = ids[context : context + 1]
        self.cache = model.new_cache(context + 1)
        fill(model, self.cache, ids[:context])

    def __call__(self) -> F32:
        self.cache.truncate(self.context)
        # A copy: the check computes with the same model, whose logits are one buffer.
        return self.model.forward(self.token, self.cache).copy()


def as_prompt(model: Model, ids: NDArray[np.int32]) -> F32:
    """The logits after `ids`, computed as a prompt whose last chunk is as long as can be.

    Cut from the front, a prompt of 257 would end in a chunk of one token: the very step it is held against.
    """
    cache = model.new_cache(len(ids))
    over = len(ids) % model.prefill_chunk
    if over:
        logits = fill(model, cache, ids[:over])
    if over < len(ids):
        logits = fill(model, cache, ids[over:])
    return logits


def matches_prefill(model: Model, ids: NDArray[np.int32], tolerance: float) -> Check:
    """The step's logits against those of the same tokens computed as one prompt."""
    compare = arrays_match(tolerance)

    def check(before: Any, after: Any) -> Match:
        return compare(as_prompt(model, ids), after)

    return check


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("prefill and decode at 16 to 2,048 tokens", NO_MODEL)
        return
    lengths = [n for n in LENGTHS if n < checkpoint.config.max_seq_len]
    ids = token_ids(lengths[-1] + 1, checkpoint.config.vocab_size)
    for name, model in models(context, checkpoint):
        tolerance = 1e-4 if name == "numpy" else 0.0
        for n in lengths:
            cache = model.new_cache(n)
            yield Case(
                name=f"{name}, prefill of {n:,}: chunks of {model.prefill_chunk} instead of {SMALL_CHUNK}",
                before=partial(prefill, model, cache, ids[:n], SMALL_CHUNK),
                after=partial(prefill, model, cache, ids[:n], model.prefill_chunk),
                claim=Claim(0.8, 1.25) if n <= SMALL_CHUNK else Claim(1.0),
                check=arrays_match(tolerance),
                work=n,
                unit="tok",
                headline=n == 1024,
                min_pairs=3 if n >= 1024 else 5,
                budget_s=context.budget_s / 2,
            )
        yield from batch_cases(name, model, BATCHES, BATCH_CONTEXT, context.budget_s / 2)
        short = Decoding(model, ids, lengths[0])
        for n in lengths[1:]:
            yield Case(
                name=f"{name}, decode at {n:,} instead of {lengths[0]} tokens of context",
                before=short,
                after=Decoding(model, ids, n),
                claim=Claim(0.0, 1.05),
                check=matches_prefill(model, ids[: n + 1], tolerance),
                work=1,
                unit="tok",
                headline=n == lengths[-1],
                budget_s=context.budget_s / 2,
            )


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """Fits of seconds against length and batch, and the roofline beside them."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        return []
    threads = context.threads or os.cpu_count() or 1
    bandwidth = max(read_bandwidth(threads).bytes_per_s for _ in range(3))
    sentences = [f"memory was read at {bandwidth / 1e9:.1f} GB/s with {threads} threads in this run"]
    for name in ("numpy", "jit"):
        prompt, batch = points_of(rows, name, "prefill"), points_of(rows, name, "batch")
        decode = [
            (_length(row), row.after_s.median)
            for row in rows
            if row.name.startswith(f"{name}, decode") and row.after_s is not None
        ]
        if min(len(prompt), len(batch), len(decode)) < 3:
            continue
        if name == "numpy":
            roof = Roofline(token_cost(checkpoint, "float32"), bandwidth, float32_peak())
        else:
            roof = Roofline(token_cost(checkpoint, "file"), bandwidth, integer_peak(threads))
        sentences.append(decode_sentence(name, decode, roof))
        sentences.append(batch_sentence(name, batch, BATCH_CONTEXT, roof))
        sentences.append(prefill_sentence(name, prompt, roof))
    return sentences


def _length(row: Row) -> float:
    return float(row.name.split(" at ")[1].split(" ")[0].replace(",", ""))


EXPERIMENT = Experiment(
    number=10,
    name="scaling",
    title="Scaling: the sequence, 16 to 2,048 tokens, and the batch, 1 to 64",
    hypothesis="A decode step costs a fixed reading of the weights plus a part that grows with the context, "
    "and another with each sequence of a batch; a prompt is cheapest in large chunks; nothing else grows",
    refuted_if="larger chunks are slower, a long context decodes faster than a short one, a batch of 16 "
    "gains less than 3x on NumPy, or decode and prefill disagree on the logits",
    cases=cases,
    conclude=conclude,
)
