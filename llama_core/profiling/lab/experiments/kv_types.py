"""Experiment 12: what a smaller KV cache gains behind a long context, and what it costs in perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from llama_core.backends.base import Model
from llama_core.checkpoint import Checkpoint
from llama_core.choices import KvType
from llama_core.engine.engine import Engine
from llama_core.profiling.lab.experiment import Case, Check, Claim, Experiment, LabContext, Match, NotMeasured
from llama_core.profiling.lab.experiments.models import (
    NO_MODEL,
    compiled_model,
    default_checkpoint,
    token_ids,
)
from llama_core.profiling.lab.experiments.scaling import Decoding
from llama_core.profiling.texts import language_reference

CONTEXTS = (1024, 2048)
PERPLEXITY_TOKENS = 2000
# How much the perplexity may grow: half a per cent is what the compiled backend itself may cost.
GROWTH: dict[KvType, float] = {"f16": 0.0005, "q8": 0.005}


def perplexity(model: Model, ids: list[int]) -> float:
    return math.exp(Engine(model, len(ids)).perplexity(ids))


def costs_at_most(growth: float, before: float, narrow: Model, ids: list[int]) -> Check:
    """A check of what counts, the perplexity of a whole text: logits of a narrower cache always differ, and
    how far one step's do says little."""

    def check(_before: Any, _after: Any) -> Match:
        after = perplexity(narrow, ids)
        change = after / before - 1
        text = (
            f"the perplexity of {len(ids):,} tokens of Python's language reference, not the step's logits: "
            f"{after:.4f} instead of {before:.4f} ({change:+.3%}, at most {growth:+.2%})"
        )
        return Match(change <= growth, text)

    return check


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("caches in f32, f16 and q8", NO_MODEL)
        return
    wide = compiled_model(context, checkpoint)
    if isinstance(wide, str):
        yield NotMeasured("caches in f32, f16 and q8", wide)
        return
    yield from _compared(context, checkpoint, wide)


def _compared(context: LabContext, checkpoint: Checkpoint, wide: Model) -> Iterator[Case | NotMeasured]:
    most = checkpoint.config.max_seq_len
    text = checkpoint.tokenizer.encode(language_reference())[: min(PERPLEXITY_TOKENS, most)]
    reference = perplexity(wide, text)
    contexts = [n for n in CONTEXTS if n < most] or [most - 1]
    ids = token_ids(contexts[-1] + 1, checkpoint.config.vocab_size)
    before = {n: Decoding(wide, ids, n) for n in contexts}
    for kv, growth in GROWTH.items():
        narrow = compiled_model(context, checkpoint, kv)
        if isinstance(narrow, str):
            yield NotMeasured(f"kv {kv} instead of f32", narrow)
            continue
        check = costs_at_most(growth, reference, narrow, text)
        for n in contexts:
            yield Case(
                name=f"decode behind {n:,} tokens: kv {kv} instead of f32",
                before=before[n],
                after=Decoding(narrow, ids, n),
                claim=Claim(1.1),
                check=check,
                work=1,
                unit="tok",
                headline=n == 1024,
            )


EXPERIMENT = Experiment(
    number=12,
    name="kv",
    title="The KV cache in 32, 16 and 8 bits",
    hypothesis="Behind a long context a decoded token waits for keys and values as well as for weights, so "
    "that halving or quartering them makes it at least a tenth faster behind 1,024 and 2,048 of them, at "
    "next to no cost in perplexity",
    refuted_if="a smaller cache gains less than a tenth behind 1,024 or 2,048 tokens, or the perplexity of "
    "Python's language reference grows by more than 0.05 % (f16) or 0.5 % (q8)",
    cases=cases,
)
