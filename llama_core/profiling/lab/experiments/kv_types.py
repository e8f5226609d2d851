"""Experiment 12: what a smaller KV cache gains behind a long context, and what it costs in perplexity; what
pairs of bfloat16 gain in prompts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from llama_core.backends.base import Model
from llama_core.checkpoint import Checkpoint
from llama_core.choices import KvType
from llama_core.profiling.lab.experiment import Case, Check, Claim, Experiment, LabContext, Match, NotMeasured
from llama_core.profiling.lab.experiments.divergence import Distances, distances
from llama_core.profiling.lab.experiments.models import (
    NO_MODEL,
    compiled_model,
    default_checkpoint,
    token_ids,
)
from llama_core.profiling.lab.experiments.scaling import Decoding
from llama_core.profiling.texts import several_texts

CONTEXTS = (1024, 2048)
PERPLEXITY_TOKENS = 2000
# How much the perplexity may grow. The divergence stands beside it without a limit: the model rounds its
# activations to 8 bits, so that the least difference in the cache moves its logits as any other would.
GROWTH: dict[KvType, float] = {"f16": 0.001, "bf16": 0.001, "q8": 0.005}


def costs_at_most(growth: float, wide: Model, narrow: Model, texts: Sequence[Sequence[int]]) -> Check:
    """A check of what counts, whole texts: logits of a narrower cache always differ, and how far one step's
    do says little. The perplexity has grown by more only where two standard errors say so. The texts are
    computed once, however many rows ask."""

    @functools.cache
    def found_distances() -> Distances:
        return distances(wide, narrow, texts)

    def check(_before: Any, _after: Any) -> Match:
        found = found_distances()
        return Match(found.growth - 2 * found.error <= growth, f"{found}; at most {growth:+.2%}")

    return check


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("caches in f32, f16, bf16 and q8", NO_MODEL)
        return
    wide = compiled_model(context, checkpoint)
    if isinstance(wide, str):
        yield NotMeasured("caches in f32, f16, bf16 and q8", wide)
        return
    yield from _compared(context, checkpoint, wide)


def _compared(context: LabContext, checkpoint: Checkpoint, wide: Model) -> Iterator[Case | NotMeasured]:
    most = checkpoint.config.max_seq_len
    each = min(PERPLEXITY_TOKENS // len(several_texts()), most)
    texts = [checkpoint.tokenizer.encode(text)[:each] for text in several_texts().values()]
    contexts = [n for n in CONTEXTS if n < most] or [most - 1]
    ids = token_ids(contexts[-1] + 1, checkpoint.config.vocab_size)
    before = {n: Decoding(wide, ids, n) for n in contexts}
    found: dict[KvType, tuple[Model, Check]] = {}
    for kv, growth in GROWTH.items():
        narrow = compiled_model(context, checkpoint, kv)
        if isinstance(narrow, str):
            yield NotMeasured(f"kv {kv} instead of f32", narrow)
            continue
        check = costs_at_most(growth, wide, narrow, texts)
        found[kv] = (narrow, check)
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
                why="fewer bytes of keys and values are read for the same weights",
            )

    if "f16" in found and "bf16" in found:
        (half, _), (pair, check), behind = found["f16"], found["bf16"], contexts[-1] // 2
        count = min(pair.prefill_chunk, contexts[-1] - behind)
        yield Case(
            name=f"{count} tokens of a prompt behind {behind:,}: kv bf16 instead of f16",
            before=Decoding(half, ids, behind, count),
            after=Decoding(pair, ids, behind, count),
            claim=Claim(1.1),
            check=check,
            work=count,
            unit="tok",
            headline=True,
            why="one instruction multiplies and adds a pair of bfloat16, where the processor has it",
        )


EXPERIMENT = Experiment(
    number=12,
    name="kv",
    title="The KV cache in 32, 16 and 8 bits",
    hypothesis="Behind a long context a decoded token waits for keys and values as well as for weights, so "
    "that halving or quartering them makes it at least a tenth faster behind 1,024 and 2,048 of them, at "
    "next to no cost in perplexity; and bfloat16, whose pairs one instruction multiplies, makes a prompt a "
    "tenth faster behind 1,024",
    refuted_if="a smaller cache gains less than a tenth behind 1,024 or 2,048 tokens, or bfloat16 in a "
    "prompt, or the perplexity of several texts grows by more than 0.1 % (f16 and bf16) or 0.5 % (q8) and "
    "two standard errors",
    cases=cases,
    processes=2,
    whole=True,
)
