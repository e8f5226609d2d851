"""Experiment 10: how prefill and decode grow with sequence and batch, and where the cost model fails."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Model
from llama_core.profiling.lab.experiment import (
    Case,
    Check,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Row,
    Timed,
    arrays_match,
)
from llama_core.profiling.lab.experiments.batching import batch_cases, prompt_cases
from llama_core.profiling.lab.experiments.fits import (
    batch_sentence,
    decode_sentence,
    points_of,
    prefill_sentence,
)
from llama_core.profiling.lab.experiments.limits import Roofline, bandwidth, roofline_of, threads_of
from llama_core.profiling.lab.experiments.models import NO_MODEL, default_checkpoint, fill, models, token_ids

LENGTHS = (16, 64, 256, 1024, 2048)
SMALL_CHUNK = 16
# Experiment 8 has every size behind a shorter context; these are enough for a fit.
BATCHES = (1, 4, 16, 64)
BATCH_CONTEXT = 64
PROMPTS = (2, 4)
# How far a step's growth may lie from that of the bytes it reads, either way.
ROOM = 0.25

F32 = NDArray[np.float32]


def prefill(model: Model, cache: Cache, ids: NDArray[np.int32], chunk: int) -> F32:
    """The whole prompt from an empty cache, `chunk` tokens a pass; the logits after it, (vocab_size,)."""
    cache.truncate(0)
    logits: F32 = np.empty(0, np.float32)
    for start in range(0, len(ids), chunk):
        stop = min(start + chunk, len(ids))
        logits = model.forward(ids[start:stop], cache, logits="last" if stop == len(ids) else "none")
    return logits.copy()


class Decoding:
    """One token, or a pass of `count`, behind `context` others; the cache is as before afterwards.

    Timed by its own clock right behind the same step, as the tokens of a reply follow one another. Behind the
    other side's step it found that one's keys and values in the processor's cache: the same step behind 16
    tokens was 1.4 times as fast in turn with one behind 64 as in turn with one behind 2,048.
    """

    def __init__(self, model: Model, ids: NDArray[np.int32], context: int, count: int = 1) -> None:
        self.model, self.context = model, context
        self.tokens = ids[context : context + count]
        self.cache = model.new_cache(context + count)
        fill(model, self.cache, ids[:context])

    def by(self, model: Model) -> Decoding:
        """The same step by another model that keeps its cache alike; both take this cache in turn."""
        other = copy.copy(self)
        other.model = model
        return other

    def __call__(self) -> Timed:
        """Two steps; the second is timed, the first has brought the cache into the processor's own."""
        self._step()
        start = time.perf_counter()
        logits = self._step()
        seconds = time.perf_counter() - start
        # A copy: the check computes with the same model, whose logits are one buffer.
        return Timed(logits.copy(), seconds)

    def _step(self) -> F32:
        self.cache.truncate(self.context)
        return self.model.forward(self.tokens, self.cache)


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
        found = compare(as_prompt(model, ids), after)
        link = "to" if found.text == "identical" else "from"
        return Match(found.ok, f"{found.text} {link} the same tokens as one prompt")

    return check


def decode_case(name: str, model: Model, short: Decoding, ids: NDArray[np.int32], roof: Roofline) -> Case:
    """The last of `ids` behind all others, against `short`: slower as the bytes that it reads are more."""
    n = len(ids) - 1
    few, many = roof.cost.bytes_at(short.context), roof.cost.bytes_at(n)
    predicted = few / many
    return Case(
        name=f"{name}, decode at {n:,} instead of {short.context} tokens of context",
        before=short,
        after=Decoding(model, ids, n),
        claim=Claim(round((1 - ROOM) * predicted, 2), round(min((1 + ROOM) * predicted, 1.05), 2)),
        # Two contexts have different logits: each step answers for itself.
        check=matches_prefill(model, ids, 1e-4 if name == "numpy" else 0.0),
        work=1,
        unit="tok",
        note=f"{predicted:.2f}x is what the bytes predict: {many / 1e6:.0f} MB to read instead of "
        f"{few / 1e6:.0f} MB",
        why="the weights are read for each token, keys and values for each position before it",
        limit_s=roof.decode_s(n),
    )


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("prefill and decode at 16 to 2,048 tokens", NO_MODEL)
        return
    lengths = [n for n in LENGTHS if n < checkpoint.config.max_seq_len]
    ids = token_ids(lengths[-1] + 1, checkpoint.config.vocab_size)
    for name, model in models(context, checkpoint):
        tolerance = 1e-4 if name == "numpy" else 0.0
        roof = roofline_of(context, name, checkpoint)
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
                why="a pass reads every weight once: larger chunks are fewer passes"
                if n > SMALL_CHUNK
                else "the prompt is one small chunk: both sides do the same",
                limit_s=roof.prefill_s(n),
            )
        yield from prompt_cases(name, model, PROMPTS, roof, context.budget_s / 2)
        yield from batch_cases(name, model, BATCHES, BATCH_CONTEXT, roof, context.budget_s / 2)
        short = Decoding(model, ids, lengths[0])
        for n in lengths[1:]:
            case = decode_case(name, model, short, ids[: n + 1], roof)
            yield replace(case, headline=n == lengths[-1], budget_s=context.budget_s / 2)


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """Fits of seconds against length and batch, and the roofline beside them."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        return []
    read = f"{bandwidth(context) / 1e9:.1f} GB/s with {threads_of(context)} threads"
    sentences = [f"memory was read at {read} in this run"]
    for name in ("numpy", "jit"):
        prompt, batch = points_of(rows, name, "prefill"), points_of(rows, name, "batch")
        decode = [
            (_length(row), row.after_s.median)
            for row in rows
            if row.name.startswith(f"{name}, decode") and row.after_s is not None
        ]
        if min(len(prompt), len(batch), len(decode)) < 3:
            continue
        roof = roofline_of(context, name, checkpoint)
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
    hypothesis="A decode step reads the weights, and keys and values of every token before it, and takes "
    "longer as these bytes are more, within a quarter of that; sequences that share a pass, for a token each "
    "or for prompts of 32, share the reading of the weights and are faster than one after another, 16 and "
    "more of them at least 3x in decoding on NumPy; a prompt is faster in large chunks. Where nothing is "
    "shared (a batch of 1, a prompt of one small chunk) the ratio is 0.8 to 1.25",
    refuted_if="a step behind a longer context is off what the bytes predict by more than a quarter (or is "
    "the faster one by more than 5 %), a batch, prompts together or larger chunks are slower, 16 or more "
    "sequences gain less than 3x in decoding on NumPy, a ratio leaves 0.8 to 1.25 where nothing is shared, "
    "or logits differ: of decode and prefill, of sequences together and alone (on the compiled backend in a "
    "single bit)",
    cases=cases,
    conclude=conclude,
    processes=2,
    whole=True,
)
