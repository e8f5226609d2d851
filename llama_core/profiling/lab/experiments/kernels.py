"""Experiment 13: what the compiled kernels' instructions, threads and tricks are worth, one at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Model
from llama_core.backends.jit.build.variants import PORTABLE, VARIANTS, host_features
from llama_core.backends.jit.model import JitLlama
from llama_core.backends.jit.prefetch import FAR, NEAR
from llama_core.backends.jit.workspace import Tuning
from llama_core.checkpoint import Checkpoint
from llama_core.profiling.lab.experiment import (
    FASTER,
    Case,
    Claim,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    arrays_match,
)
from llama_core.profiling.lab.experiments.divergence import distance as text_distance
from llama_core.profiling.lab.experiments.models import (
    NO_MODEL,
    compiled_model,
    default_checkpoint,
    numpy_model,
    token_ids,
)
from llama_core.profiling.lab.experiments.scaling import Decoding, prefill
from llama_core.profiling.texts import language_reference

PROMPT = 256
CONTEXT = 32
identical = arrays_match(0.0)
WIDER = "an instruction multiplies and adds more numbers"
SHARED_OUT = "rows of weights, or tokens, are shared out between the threads"
EVERYTHING = "instructions, threads and tricks of the compiled kernels"

F32 = NDArray[np.float32]


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured(EVERYTHING, NO_MODEL)
        return
    runnable = [isa for isa in VARIANTS.values() if all(host_features().get(f) for f in isa.needs)]
    models: list[tuple[str, JitLlama]] = []
    for isa, threads in [*((isa, None) for isa in runnable), (runnable[0], 1)]:
        model = compiled_model(context, checkpoint, isa=isa.name, threads=threads)
        if isinstance(model, str):
            yield NotMeasured(EVERYTHING, model)
            return
        models.append((isa.name, model))
    _, single = models.pop()
    n = min(PROMPT, checkpoint.config.max_seq_len - 1)
    ids = token_ids(n, checkpoint.config.vocab_size)
    for (name, model), (weaker, its_model) in itertools.pairwise(models):
        claim = Claim(2.0) if weaker == PORTABLE.name else FASTER
        yield from _compared(f"{name} instead of {weaker}", its_model, model, ids, claim, WIDER)
    _, best = models[0]
    if best.threads > 1:
        yield from _compared(
            f"{best.threads} threads instead of 1", single, best, ids, Claim(1.4), SHARED_OUT
        )
    yield from _tuned(context, checkpoint, best, ids)
    text = np.array(checkpoint.tokenizer.encode(language_reference())[:n], np.int32)
    among = compiled_model(context, checkpoint, tuning=Tuning(outlier=math.inf, outlier_hidden=math.inf))
    if not isinstance(among, str):
        yield _outliers(among, best, numpy_model(context, checkpoint), text)


def _tuned(
    context: LabContext, checkpoint: Checkpoint, best: JitLlama, ids: NDArray[np.int32]
) -> Iterator[Case]:
    """One trick at a time, in models that do without it."""
    from_far, from_near, finishing = (
        compiled_model(context, checkpoint, tuning=tuning)
        for tuning in (
            Tuning(prefetch_bytes=FAR),
            Tuning(prefetch_bytes=NEAR),
            Tuning(finishes_all=True),
        )
    )
    if isinstance(from_far, str) or isinstance(from_near, str) or isinstance(finishing, str):
        return
    yield _prefetching(from_near, from_far, ids)
    yield _last_layer(finishing, best, ids)


def _compared(
    name: str, before: JitLlama, after: JitLlama, ids: NDArray[np.int32], claim: Claim, why: str
) -> Iterator[Case]:
    """A prompt and a decoded token with two models."""
    caches = [model.new_cache(len(ids)) for model in (before, after)]
    yield Case(
        name=f"prefill of {len(ids)}: {name}",
        before=partial(prefill, before, caches[0], ids, before.prefill_chunk),
        after=partial(prefill, after, caches[1], ids, after.prefill_chunk),
        claim=claim,
        check=identical,
        work=len(ids),
        unit="tok",
        headline=True,
        why=f"a prompt is products: {why}",
    )
    yield Case(
        name=f"decode behind {CONTEXT}: {name}",
        before=Decoding(before, ids, CONTEXT),
        after=Decoding(after, ids, CONTEXT),
        claim=FASTER,
        check=identical,
        work=1,
        unit="tok",
        why=f"{why}; a token waits for its weights as well, which come no faster for that",
    )


def _prefetching(before: JitLlama, after: JitLlama, ids: NDArray[np.int32]) -> Case:
    return Case(
        name=f"decode behind {CONTEXT}: weights asked for {FAR // 1024} KiB ahead instead of {NEAR} bytes",
        before=Decoding(before, ids, CONTEXT),
        after=Decoding(after, ids, CONTEXT),
        claim=FASTER,
        check=identical,
        work=1,
        unit="tok",
        note="processors differ, so that decoding tries both and keeps the faster one",
        headline=True,
        why="memory answers during the work before it, where the processor does not ask ahead itself",
    )


def _last_layer(before: JitLlama, after: JitLlama, ids: NDArray[np.int32]) -> Case:
    caches = [model.new_cache(len(ids)) for model in (before, after)]
    return Case(
        name=f"prefill of {len(ids)}: the last layer for the last token only instead of for all",
        before=partial(prefill, before, caches[0], ids, before.prefill_chunk),
        after=partial(prefill, after, caches[1], ids, after.prefill_chunk),
        claim=FASTER,
        check=identical,
        work=len(ids),
        unit="tok",
        headline=True,
        why=f"one layer is {1 / after.config.n_layers:.1%} of all layers; its keys and values are needed of "
        "all tokens, the rest of it of one",
    )


def _outliers(among: JitLlama, apart: JitLlama, oracle: Model, ids: NDArray[np.int32]) -> Case:
    caches = [model.new_cache(len(ids)) for model in (among, apart)]

    def check(_before: Any, _after: Any) -> Match:
        far, near = (text_distance(oracle, model, ids).kl_nats for model in (among, apart))
        return Match(near <= far, f"{near:.4f} nats from float32 instead of {far:.4f}")

    return Case(
        name=f"prefill of {len(ids)}: outliers of the activations apart in float32 instead of among the int8",
        before=partial(prefill, among, caches[0], ids, among.prefill_chunk),
        after=partial(prefill, apart, caches[1], ids, apart.prefill_chunk),
        claim=Claim(0.9),
        check=check,
        work=len(ids),
        unit="tok",
        headline=True,
        why="one large number sets its block's scale and leaves few bits to the others; apart it costs a "
        "product of its own",
    )


EXPERIMENT = Experiment(
    number=13,
    name="kernels",
    title="What the compiled kernels are made of",
    hypothesis="A prompt is arithmetic: each wider instruction set makes it faster, the first step up from "
    "the portable kernels at least 2x, all threads make it at least 1.4x as fast as one, and so it helps to "
    "leave out what the last layer does for tokens whose logits nobody needs; a decoded token gains from "
    "instructions and threads too, but waits for memory, so that asking for weights ahead of their use helps "
    "as well; that outliers kept in float32 cost at most a tenth of a prompt's rate "
    "and bring the model nearer to float32",
    refuted_if="an instruction set is slower than the next weaker one (for a prompt: less than 2x the "
    "portable kernels), more threads bring less than 1.4x to a prompt or slow decoding down, a prompt is "
    "slower with less of the last layer or a token with asking ahead, outliers in float32 cost more than a "
    "tenth of a prompt's rate or take the model further from float32, or two instruction sets, thread counts "
    "or ways through the last layer differ in a single bit",
    cases=cases,
    processes=2,
    whole=True,
)
