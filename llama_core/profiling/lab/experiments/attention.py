"""Experiment 17: what makes attention over a long cache fast, one trick at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit import jit_available
from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.layout import BLOCK_POSITIONS, KV_KINDS, PARTIAL_HEAD_BYTES, ROW_COUNTS
from llama_core.backends.jit.prefetch import NEAR
from llama_core.backends.jit.workspace import RUN_SPAN_ROWS, SPAN_ROWS, Tuning
from llama_core.config import ModelConfig
from llama_core.profiling.lab.experiment import (
    FASTER,
    Case,
    Claim,
    Experiment,
    LabContext,
    NotMeasured,
    arrays_match,
)
from llama_core.profiling.lab.experiments.models import compiled_model, token_ids
from llama_core.profiling.lab.experiments.scaling import Decoding
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint
from llama_core.roofline.instruments import compiled, own_isa

# Attention of a 1B model, and next to nothing else: two layers hold 67 MB of keys and values behind 16,000.
SHAPE = ModelConfig(
    dim=512,
    hidden_dim=512,
    n_layers=2,
    n_heads=32,
    n_kv_heads=8,
    head_dim=64,
    vocab_size=512,
    max_seq_len=16384,
    name="attention of 1B, 2 layers",
)
BEHIND = 16000
TOKENS = 128
# One key-value head: its query rows, and blocks of positions that stay in a core's second cache.
ROWS = 64
BLOCKS = 16
HEAD_DIM = 64
KIND = KV_KINDS["bf16"]
# Scores of one call of the kernel, and how many such make a time that a clock can tell.
WEIGHTS, TIMES = max(ROW_COUNTS) * BLOCK_POSITIONS, 64
IDENTICAL = arrays_match(0.0)
# What rounding a weight to bfloat16 may do: it has eight bits.
ROUNDED = arrays_match(2.0**-8)
# The first total: a block is merged with it as with one that nothing was seen of.
NOTHING = -1e30

F32 = NDArray[np.float32]


def _write_walk(module: Any, isa: Isa, *, rows: int, positions: int, merges_apart: bool) -> None:
    """`walk(queries, keys, values, scores, totals, results)`: ROWS query rows over BLOCKS blocks.

    rows: how many the kernel takes together; positions: how many of a block it takes before it merges;
    merges_apart: its result goes to memory, from where a kernel of its own merges it.
    """
    from llama_core.backends.jit.kernels.attention import attend, merge
    from llama_core.backends.jit.kernels.emit import I64, Code

    others = [kind for kind in KV_KINDS.values() if kind is not KIND]
    attend.emit(module, isa, left_out=[*others, *(count for count in ROW_COUNTS if count != rows)])
    merge.emit(module, isa)
    code = Code(module, "walk", 6)
    queries, keys, values, scores, totals, results = code.args
    partial_bytes = PARTIAL_HEAD_BYTES + 4 * HEAD_DIM
    query_bytes = HEAD_DIM * (KIND.number_bytes if isa.pair_dots else 4)
    constant = partial(code.splat, I64)
    zero = constant(0)
    with code.loop(0, BLOCKS) as block, code.loop(0, BLOCK_POSITIONS, positions) as p:
        at = block * KIND.block_bytes(HEAD_DIM)
        with code.loop(0, ROWS, rows) as row:
            total, result = (place + row * partial_bytes for place in (totals, results))
            code.call(
                attend.variant(KIND, rows),
                None,
                queries + row * query_bytes,
                keys + at + p * (KIND.number_bytes * KIND.at_once),
                values + at + p * (KIND.number_bytes * HEAD_DIM),
                constant(HEAD_DIM),
                constant(positions),
                zero,  # all is near: nothing is asked for
                zero,
                zero,
                scores,
                zero,
                result,
                zero if merges_apart else total,
                constant(partial_bytes),
            )
            if merges_apart:
                code.call(merge.name, None, total, result, constant(HEAD_DIM), constant(rows))
    code.finish()


# The same function for each way, so that it is compiled once.
USUAL = partial(_write_walk, rows=max(ROW_COUNTS), positions=BLOCK_POSITIONS, merges_apart=False)
APART = partial(_write_walk, rows=max(ROW_COUNTS), positions=BLOCK_POSITIONS, merges_apart=True)
HALVES = partial(_write_walk, rows=max(ROW_COUNTS), positions=BLOCK_POSITIONS // 2, merges_apart=False)
ALONE = partial(_write_walk, rows=1, positions=BLOCK_POSITIONS, merges_apart=False)


class Walk:
    """ROWS query rows attend to BLOCKS blocks of one key-value head; the result is (ROWS, HEAD_DIM)."""

    def __init__(self, isa: Isa, write: partial[None]) -> None:
        rng = np.random.default_rng(17)
        rows = write.keywords["rows"]
        self._kernel = compiled(isa, write, "walk", 6)
        arena = Arena(1 << 20, huge=False)
        queries = 0.2 * rng.standard_normal((ROWS // rows, rows, HEAD_DIM // 2, 2), dtype=np.float32)
        # As `kernels/attention.py` draws them: pairs, or numbers as float32.
        interleaved: NDArray[Any] = _bfloat16(queries.transpose(0, 2, 1, 3))
        if not isa.pair_dots:
            interleaved = (_bfloat16(queries.transpose(0, 2, 3, 1)).astype(np.uint32) << 16).view(np.float32)
        numbers = rng.standard_normal((2, BLOCKS * BLOCK_POSITIONS * HEAD_DIM), dtype=np.float32)
        places: list[NDArray[Any]] = []
        for array in (interleaved, *_bfloat16(numbers)):
            places.append(arena.take(array.nbytes))
            places[-1][:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        scores = arena.take(4 * (BLOCK_POSITIONS + 2) * rows)
        partials = [
            arena.floats(ROWS * (PARTIAL_HEAD_BYTES // 4 + HEAD_DIM)).reshape(ROWS, -1) for _ in range(2)
        ]
        self._totals = partials[0]
        self._arguments = [address(x) for x in (*places, scores, *partials)]
        self._memory = (arena, partials)

    def __call__(self) -> F32:
        """All rows over all blocks."""
        totals = self._totals
        totals[...] = 0.0
        totals[:, 0] = NOTHING
        self._kernel(*self._arguments)
        return totals[:, PARTIAL_HEAD_BYTES // 4 :] / totals[:, 1:2]


def _bfloat16(numbers: F32) -> NDArray[np.uint16]:
    """Cut to bfloat16."""
    return (np.ascontiguousarray(numbers).view(np.uint32) >> 16).astype(np.uint16)


def _write_weights(module: Any, isa: Isa, *, rough: bool) -> None:
    """`weights(scores, out)`: WEIGHTS times 2 ** score as bfloat16, TIMES times over."""
    from llama_core.backends.jit.kernels.dots import BFLOAT16_LEAST, round_to_bfloat16
    from llama_core.backends.jit.kernels.emit import BF16, I32, Code, F32x16, vector
    from llama_core.backends.jit.kernels.vector import power_of_2, rough_power_of_2

    code = Code(module, "weights", 2)
    scores, out = code.args
    # Eight vectors at once, as the kernel computes rows side by side: each waits long for its own numbers.
    with code.loop(0, TIMES), code.loop(0, WEIGHTS, 128) as i:
        for lane in range(0, 128, 16):
            score = code.load(F32x16, scores + (i + lane) * 4)
            weight = rough_power_of_2(score, math.log2(BFLOAT16_LEAST)) if rough else power_of_2(score)
            if isa.pair_dots:
                code.store(weight.to(vector(BF16, 16)).bits(vector(I32, 8)), out + (i + lane) * 2)
            else:
                code.store(round_to_bfloat16(weight), out + (i + lane) * 4)
    code.finish()


ROUGH = partial(_write_weights, rough=True)
EXACT = partial(_write_weights, rough=False)


class Weights:
    """The weights of WEIGHTS scores, (WEIGHTS,) float32 of which bfloat16 keeps all, TIMES times over."""

    def __init__(self, isa: Isa, write: partial[None]) -> None:
        self._kernel = compiled(isa, write, "weights", 2)
        self._scores = -8.0 * np.random.default_rng(17).random(WEIGHTS, dtype=np.float32)
        self._out = np.empty(WEIGHTS, np.uint16 if isa.pair_dots else np.uint32)

    def __call__(self) -> F32:
        """All of them."""
        self._kernel(address(self._scores), address(self._out))
        bits = self._out.astype(np.uint32)
        return (bits << 16 if self._out.itemsize == 2 else bits).view(np.float32)


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    reason = jit_available()
    if reason is not None:
        yield NotMeasured("attention's kernels", reason)
        return
    yield from _kernels(own_isa())
    yield from _passes(context)


def _kernels(isa: Isa) -> Iterator[Case]:
    """The kernel over blocks that are near, in one thread."""
    walk = Walk(isa, USUAL)
    for what, without, claim, check, why in (
        (
            f"{max(ROW_COUNTS)} rows at once instead of one",
            ALONE,
            Claim(1.5),
            IDENTICAL,
            "a number of a key or a value is loaded once for all of them, and no sum waits for itself",
        ),
        (
            "a block is merged from the registers it was computed in instead of from memory",
            APART,
            FASTER,
            IDENTICAL,
            "its result is neither written nor read again, and all rows' shares are one vector",
        ),
        (
            f"merged every {BLOCK_POSITIONS} positions instead of every {BLOCK_POSITIONS // 2}",
            HALVES,
            FASTER,
            ROUNDED,
            "merging is work for each number of a head, whatever the block's length",
        ),
    ):
        yield Case(
            name=f"{ROWS} query rows over {BLOCKS * BLOCK_POSITIONS:,} positions: {what}",
            before=Walk(isa, without),
            after=walk,
            claim=claim,
            check=check,
            headline=True,
            why=why,
        )
    yield Case(
        name=f"{TIMES * WEIGHTS:,} weights for bfloat16: 2 ** score within a part of 2 ** 13 instead of "
        "2 ** 22",
        before=Weights(isa, EXACT),
        after=Weights(isa, ROUGH),
        check=ROUNDED,
        headline=True,
        why="three fma instead of seven; bfloat16 keeps eight bits of the result",
    )


def _passes(context: LabContext) -> Iterator[Case | NotMeasured]:
    """A pass of a prompt behind a cache that no core's own cache holds."""
    checkpoint = context.share("attention", lambda: random_checkpoint(SHAPE, NoTokenizer(), seed=17))
    usual = compiled_model(context, checkpoint, "bf16")
    if isinstance(usual, str):
        yield NotMeasured("a prompt behind a long cache", usual)
        return
    behind = min(BEHIND, SHAPE.max_seq_len - TOKENS)
    passing = Decoding(usual, token_ids(behind + TOKENS, SHAPE.vocab_size), behind, TOKENS)
    for what, tuning, why in (
        (
            f"a thread takes {RUN_SPAN_ROWS} query rows over the cache at once instead of {SPAN_ROWS}",
            Tuning(run_span_rows=SPAN_ROWS),
            "keys and values come from memory less often",
        ),
        (
            "asks for keys and values a block ahead instead of not",
            Tuning(prefetch_bytes=NEAR),
            "memory answers during the block before",
        ),
    ):
        name = f"{TOKENS} tokens of a prompt behind {behind:,}: {what}"
        without = compiled_model(context, checkpoint, "bf16", tuning=tuning)
        if isinstance(without, str):
            yield NotMeasured(name, without)
            continue
        yield Case(
            name=name,
            before=passing.by(without),
            after=passing,
            check=IDENTICAL,
            work=TOKENS,
            unit="tok",
            headline=True,
            why=why,
        )


EXPERIMENT = Experiment(
    number=17,
    name="attention",
    title="Attention over a long cache",
    hypothesis="Behind a long cache a prompt's time is attention. Its products are at the units' roof, so "
    "that what is left lies in what stands around them: loading, merging blocks, weights, and the cache that "
    "comes from memory. Each of these tricks makes it faster",
    refuted_if="outputs differ by more than rounding to bfloat16 makes, a trick gains nothing, or several "
    "rows at once gain less than 1.5x",
    cases=cases,
    processes=2,
    whole=True,
)
