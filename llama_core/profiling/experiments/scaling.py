"""Experiment 10: how prefill and decode grow with the sequence, and where the cost model fails."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backend import Cache, Model
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
from llama_core.profiling.experiments.models import NO_MODEL, default_checkpoint, fill, models, token_ids
from llama_core.profiling.roofline import read_bandwidth, token_cost

LENGTHS = (16, 64, 256, 1024, 2048)
SMALL_CHUNK = 16

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


def matches_prefill(model: Model, ids: NDArray[np.int32], tolerance: float) -> Check:
    """The step's logits against those of the same tokens computed as one prompt."""
    compare = arrays_match(tolerance)

    def check(before: Any, after: Any) -> Match:
        whole = fill(model, model.new_cache(len(ids)), ids)
        return compare(whole, after)

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
    """Fits of seconds against length, and the roofline beside them."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        return []
    threads = context.threads or os.cpu_count() or 1
    bandwidth = max(read_bandwidth(threads).bytes_per_s for _ in range(3))
    sentences = [f"memory was read at {bandwidth / 1e9:.1f} GB/s with {threads} threads in this run"]
    for name, weights in (("numpy", "float32"), ("jit", "file")):
        found = [row for row in rows if row.name.startswith(name + ",") and row.after_s is not None]
        decode = [(_length(row), row.after_s.median) for row in found if "decode" in row.name and row.after_s]
        prompt = [(row.work, row.after_s.median) for row in found if "prefill" in row.name and row.after_s]
        cost = token_cost(checkpoint, "float32" if weights == "float32" else "file")
        if len(decode) > 2:
            sentences.append(
                _decode_sentence(name, decode, cost.weight_bytes, cost.kv_bytes_per_position, bandwidth)
            )
        if len(prompt) > 2:
            sentences.append(_prefill_sentence(name, prompt))
    return sentences


def _length(row: Row) -> float:
    return float(row.name.split(" at ")[1].split(" ")[0].replace(",", ""))


Points = Sequence[tuple[float, float]]


def _fit(points: Points) -> tuple[float, float, float]:
    """seconds = fixed + slope * n by least squares of relative errors; and the largest departure from it."""
    lengths, seconds = np.array(points).T
    slope, fixed = np.polyfit(lengths, seconds, 1, w=1 / seconds)
    departure = float(np.max(np.abs(seconds / (fixed + slope * lengths) - 1)))
    return float(fixed), float(slope), departure


def _decode_sentence(name: str, points: Points, weight_bytes: int, kv_bytes: float, bandwidth: float) -> str:
    fixed, slope, departure = _fit(points)
    floor, floor_slope = weight_bytes / bandwidth, kv_bytes / bandwidth
    fitted = f"{fixed * 1e3:.2f} ms + {slope * 1e6:.2f} us a position (within {departure:.0%})"
    roof = f"{floor * 1e3:.2f} ms + {floor_slope * 1e6:.2f} us"
    least, most = points[0], points[-1]
    shares = [(floor + floor_slope * n) / seconds for n, seconds in (least, most)]
    return (
        f"{name}, decode: {fitted}; memory alone allows {roof}, so that it reaches {shares[0]:.2f} of the "
        f"roofline at {least[0]:,.0f} positions and {shares[1]:.2f} at {most[0]:,.0f}"
    )


def _prefill_sentence(name: str, points: Points) -> str:
    per_token = [(n, seconds / n) for n, seconds in points if n >= 64]
    fixed, slope, departure = _fit(per_token)
    return (
        f"{name}, prefill: {fixed * 1e6:.0f} us a token + {slope * 1e9:.1f} ns for each token of the prompt "
        f"(within {departure:.0%} from 64 tokens on)"
    )


EXPERIMENT = Experiment(
    number=10,
    name="scaling",
    title="Scaling with the sequence, 16 to 2,048 tokens",
    hypothesis="A decode step costs a fixed reading of the weights plus a part that grows with the context, "
    "and a prompt is cheapest in large chunks; nothing else grows",
    refuted_if="larger chunks are slower, a long context decodes faster than a short one, or decode and "
    "prefill disagree on the logits",
    cases=cases,
    conclude=conclude,
)
