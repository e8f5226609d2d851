"""Experiment 4: everything at once, the baseline against the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Model
from llama_core.checkpoint import Checkpoint
from llama_core.config import ModelConfig
from llama_core.profiling.first_version.model import BaselineLlama, apply_rope, rope_tables
from llama_core.profiling.first_version.tokenizer import first_encode
from llama_core.profiling.lab.experiment import (
    Case,
    Claim,
    Experiment,
    LabContext,
    NotMeasured,
    Part,
    Row,
    arrays_match,
    same,
)
from llama_core.profiling.lab.experiments import texts
from llama_core.profiling.lab.experiments.models import (
    NO_MODEL,
    default_checkpoint,
    fill,
    numpy_model,
    stories_checkpoint,
    token_ids,
)
from llama_core.profiling.lab.experiments.position_slip import slip_sentence
from llama_core.profiling.lab.experiments.rope import Halves, Pair, pairs_match, sliced, to_halves
from llama_core.profiling.synthetic import STORIES15M
from llama_core.tokenizers.spm_bpe import SPACE

PROMPT_N = 64
LOOK_UPS = "a list is searched from its start for each pair of neighbours, a dict is asked once"
F32 = NDArray[np.float32]


def stories_tokenisation() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Scores and list.index, and the engine on words that it has not seen."""
    text = texts.text_of(94)
    before = texts.list_tokenizer(texts.vocabulary())
    after = texts.engine_tokenizer(cached=False)
    return partial(before.encode, text.replace(" ", SPACE)), partial(after.encode, text)


def default_tokenisation(checkpoint: Checkpoint) -> tuple[Callable[[], Any], Callable[[], Any]] | None:
    """A first version over the file's own merges, the engine's on words that it has not seen; None for a file
    with another kind of tokeniser."""
    before = first_encode(checkpoint)
    if before is None or "tokenizer.ggml.merges" not in checkpoint.metadata:
        return None
    text = texts.text_of(94)
    return partial(before, text), partial(texts.uncached(checkpoint.tokenizer).encode, text)


def sliced_rope(xq: Any, xk: Any, cos: Any, sin: Any) -> Any:
    """RoPE by slices in the first version's place: (1, seq, heads, head_dim), tables (seq, head_dim / 2), in
    the types that come (`apply_rope` answers in float64 where its tables are)."""
    dtype = np.result_type(xq, cos)
    wide_cos, wide_sin = cos[:, None, :], sin[:, None, :]
    return tuple(sliced(x.astype(dtype, copy=False), wide_cos, wide_sin) for x in (xq, xk))


def unchanged_cases(context: LabContext) -> Iterator[Case]:
    """A dict for the look-ups and slices for RoPE in an otherwise unchanged first version: what two remedies
    that win by themselves do to the whole program."""
    checkpoint = stories_checkpoint(context)
    before, after = (BaselineLlama(checkpoint, 128, rope=rope) for rope in (apply_rope, sliced_rope))
    by_list, by_dict = (made(texts.vocabulary()) for made in (texts.list_tokenizer, texts.dict_tokenizer))
    spaced = texts.text_of(94).replace(" ", SPACE)
    name = "stories15M shape, first version with dict lookup and sliced RoPE"
    yield Case(
        name=f"{name}: tokenisation of 94 characters",
        before=partial(by_list.encode, spaced),
        after=partial(by_dict.encode, spaced),
        claim=Claim(10.0),
        check=same,
        min_pairs=5,
        why=LOOK_UPS,
    )
    ids = token_ids(PROMPT_N + 1, checkpoint.config.vocab_size)
    for model in (before, after):
        baseline_step(model, ids[:PROMPT_N], 0)
    for phase, part, start in (
        (f"prefill of {PROMPT_N} tokens", ids[:PROMPT_N], 0),
        (f"decode behind {PROMPT_N} tokens", ids[PROMPT_N:], PROMPT_N),
    ):
        yield Case(
            name=f"{name}: {phase}",
            before=partial(baseline_step, before, part, start),
            after=partial(baseline_step, after, part, start),
            claim=Claim(0.9, 1.1),
            check=arrays_match(1e-5),
            work=len(part),
            unit="tok",
            headline=True,
            min_pairs=5,
            budget_s=context.budget_s,
            why="RoPE is a few per cent of such a step; float64 products are the rest, and stay",
        )


def rope_case(
    name: str, n: int, config: ModelConfig, model: Literal["stories15M", "default"], budget_s: float
) -> Case:
    """One layer's rotation of n tokens: float64 tables and stacking against the engine's form."""
    rng = np.random.default_rng(4)
    head_dim = config.head_dim
    shape_q, shape_k = ((1, n, heads, head_dim) for heads in (config.n_heads, config.n_kv_heads))
    q, k = (rng.standard_normal(shape, dtype=np.float32) for shape in (shape_q, shape_k))
    wide = rope_tables(head_dim, n, 10000.0)
    cos, sin = (table.astype(np.float32) for table in wide)
    turn_q, turn_k = Halves(shape_q), Halves(shape_k)
    q_halves, k_halves = to_halves(q), to_halves(k)
    engine_cos = cos[:, None, None, :]
    engine_sin = np.stack((-sin, sin), axis=1)[:, None]

    def after() -> Pair:
        return turn_q(q_halves, engine_cos, engine_sin), turn_k(k_halves, engine_cos, engine_sin)

    return Case(
        name=f"{name}: RoPE of {n} tokens, one layer",
        before=partial(apply_rope, q, k, *wide),
        after=after,
        check=pairs_match((shape_q, shape_k), halves=True),
        budget_s=budget_s,
        why="float32 tables instead of float64, and halves turned where they stand instead of a stack of two",
        part=Part(("RoPE",), config.n_layers, "prefill", model, n),
    )


def baseline_step(model: BaselineLlama, ids: NDArray[np.int32], start: int) -> Any:
    """ids: (n,) behind `start` tokens; the last one's logits, (vocab_size,)."""
    return model(ids[None], start)[0, -1]


def engine_step(model: Model, cache: Cache, ids: NDArray[np.int32], start: int) -> F32:
    """The same by the engine's model, (vocab_size,); what stood in the cache behind `start` is dropped."""
    cache.truncate(start)
    return fill(model, cache, ids)


def step_cases(
    name: str, context: LabContext, checkpoint: Checkpoint, claims: tuple[Claim, Claim]
) -> Iterator[Case]:
    """Prefill of PROMPT_N tokens, and a decode step behind them."""
    baseline = BaselineLlama(checkpoint, 128)
    engine = numpy_model(context, checkpoint)
    cache = engine.new_cache(128)
    ids = token_ids(PROMPT_N + 1, checkpoint.config.vocab_size)
    baseline_step(baseline, ids[:PROMPT_N], 0)
    engine_step(engine, cache, ids[:PROMPT_N], 0)
    for phase, part, start, claim in (
        (f"prefill of {PROMPT_N} tokens", ids[:PROMPT_N], 0, claims[0]),
        (f"decode behind {PROMPT_N} tokens", ids[PROMPT_N:], PROMPT_N, claims[1]),
    ):
        yield Case(
            name=f"{name}: {phase}",
            before=partial(baseline_step, baseline, part, start),
            after=partial(engine_step, engine, cache, part, start),
            claim=claim,
            check=arrays_match(1e-3),
            work=len(part),
            unit="tok",
            headline=True,
            min_pairs=5,
            budget_s=2 * context.budget_s,
            why="float32 instead of float64, keys and values neither repeated nor copied, buffers kept",
        )


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    before, after = stories_tokenisation()
    yield Case(
        "stories15M shape: tokenisation of 94 characters",
        *(before, after, Claim(10.0), same),
        min_pairs=5,
        why=LOOK_UPS,
    )
    yield rope_case("stories15M shape", PROMPT_N, STORIES15M, "stories15M", context.budget_s / 2)
    yield from unchanged_cases(context)
    yield from step_cases("stories15M shape", context, stories_checkpoint(context), (Claim(2.0), Claim(4.0)))
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("default model: tokenisation, RoPE, prefill, decode", NO_MODEL)
        return
    found = default_tokenisation(checkpoint)
    if found is None:
        yield NotMeasured("default model: tokenisation", "the file's tokeniser is not byte-level BPE")
    else:
        name = "default model: tokenisation of 94 characters"
        why = (
            "all pairs are scanned anew after each merge, where the engine's heap gives the best one at once"
        )
        yield Case(name, *found, Claim(10.0), same, min_pairs=5, why=why)
    yield rope_case("default model", PROMPT_N, checkpoint.config, "default", context.budget_s / 2)
    yield from step_cases("default model", context, checkpoint, (Claim(2.0), Claim(4.0)))


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """What the one fault costs that no row can show."""
    checkpoint = default_checkpoint(context)
    return [] if checkpoint is None else [slip_sentence(checkpoint)]


EXPERIMENT = Experiment(
    number=4,
    name="together",
    title="All together: a first version against the engine (NumPy)",
    hypothesis="The remedies add up: with nothing but NumPy the engine decodes at least 4 times, prefills at "
    "least 2 times and tokenises words that it has not seen at least 10 times as fast as a first version, "
    "and turns RoPE's pairs faster, with the same ids and logits. Two of the remedies alone, a dict for "
    "look-ups and slices for RoPE, change the first version's steps by at most a tenth",
    refuted_if="decoding, prefill or tokenisation gains less than that, RoPE is slower, two remedies alone "
    "change a step by more than a tenth, ids differ, or logits differ by more than 1e-3 (RoPE's pairs by "
    "more than 1e-5) of the largest",
    cases=cases,
    conclude=conclude,
    processes=2,
    whole=True,
)
