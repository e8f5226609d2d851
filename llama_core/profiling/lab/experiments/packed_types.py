"""Experiment 14: K-quants computed from their own bits instead of from 8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.jit.model import JitLlama
from llama_core.backends.jit.workspace import Tuning
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
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
from llama_core.profiling.lab.experiments import panels
from llama_core.profiling.lab.experiments.divergence import distance as text_distance
from llama_core.profiling.lab.experiments.models import compiled_model, numpy_model, token_ids
from llama_core.profiling.lab.experiments.scaling import Decoding, prefill
from llama_core.profiling.random_gguf import random_blocks
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint
from llama_core.quant.table import BY_NAME, F32

# Wide enough for blocks of 256 columns, and with 90 million weights more than a processor's caches hold.
SHAPE = ModelConfig(
    dim=1024,
    hidden_dim=2816,
    n_layers=8,
    n_heads=16,
    n_kv_heads=4,
    head_dim=64,
    vocab_size=4096,
    max_seq_len=1024,
    name="90M shape, random K-quants",
)
PROMPT = 256
CONTEXT = 32
SENSITIVE = ("v_proj", "down_proj")  # Q6_K in the files that are called Q4_K_M
WHAT = "Q4_K and Q6_K from their own bits instead of from 8"
IN_TURN = "tiles ask in turn for the weights that come next instead of each for its own"
# How far llama.cpp is from float32 on Qwen2.5-Coder-0.5B in Q4_K_M (`assets/docs/speed.md`).
NEAR_NATS = 0.002


def _checkpoints(context: LabContext) -> tuple[Checkpoint, Checkpoint]:
    """The same random numbers in K-quants, and as the float32 that they stand for."""

    def make() -> tuple[Checkpoint, Checkpoint]:
        rng = np.random.default_rng(14)
        wide = random_checkpoint(SHAPE, NoTokenizer(), seed=14)
        packed = dict(wide.tensors)
        for name, tensor in wide.tensors.items():
            if len(tensor.shape) == 2:
                fmt = BY_NAME["Q6_K" if name.endswith(SENSITIVE) else "Q4_K"]
                rows, columns = tensor.shape
                blocks = random_blocks(fmt, rows * columns // fmt.block_size, columns**-0.5, rng)
                packed[name] = Tensor(name, tensor.shape, fmt, blocks.reshape(rows, -1))
        floats = {
            name: Tensor(name, t.shape, F32, np.atleast_2d(t.to_float32()).view(np.uint8))
            for name, t in packed.items()
        }
        own = replace(wide, tensors=packed, path=Path("quants.synthetic"))
        return own, replace(wide, tensors=floats, path=Path("floats.synthetic"))

    made: tuple[Checkpoint, Checkpoint] = context.share("quants", make)
    return made


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models and arrays are made as they are asked for."""
    quants, floats = _checkpoints(context)
    own = compiled_model(context, quants)
    eight = compiled_model(context, floats, weights="8bit")
    if isinstance(own, str) or isinstance(eight, str):
        yield NotMeasured(WHAT, str(own if isinstance(own, str) else eight))
        return
    ids = token_ids(PROMPT, SHAPE.vocab_size)
    caches = [model.new_cache(PROMPT) for model in (eight, own)]
    check = partial(_near, context, floats, eight, own, ids)
    yield Case(
        name=f"decode behind {CONTEXT}: {WHAT}",
        before=Decoding(eight, ids, CONTEXT),
        after=Decoding(own, ids, CONTEXT),
        claim=Claim(1.2),
        check=check,
        work=1,
        unit="tok",
        headline=True,
        why="a token waits for its weights, and 4.6 and 6.6 bits a weight are read instead of 8.5",
    )
    yield Case(
        name=f"prefill of {PROMPT}: {WHAT}",
        before=partial(prefill, eight, caches[0], ids, eight.prefill_chunk),
        after=partial(prefill, own, caches[1], ids, own.prefill_chunk),
        claim=Claim(0.8),
        check=check,
        work=PROMPT,
        unit="tok",
        headline=True,
        why="a prompt reads the weights once for many tokens: what is left is the unpacking",
    )
    alone = compiled_model(context, quants, tuning=Tuning(in_turn=False))
    if isinstance(alone, str):
        yield NotMeasured(IN_TURN, alone)
        return
    yield Case(
        name=f"prefill of {PROMPT}: {IN_TURN}",
        before=partial(prefill, alone, alone.new_cache(PROMPT), ids, alone.prefill_chunk),
        after=partial(prefill, own, caches[1], ids, own.prefill_chunk),
        claim=FASTER,
        check=arrays_match(0.0),
        work=PROMPT,
        unit="tok",
        headline=True,
        why="else the first tile waits for memory, which has nothing to do while the others compute",
    )
    yield panels.case()


def _near(
    context: LabContext,
    floats: Checkpoint,
    eight: JitLlama,
    own: JitLlama,
    ids: NDArray[np.int32],
    _before: Any,
    _after: Any,
) -> Match:
    """Whether the file's own bits are near to NumPy's float32. They lose nothing of the weights, 8 bits do;
    but their activations share a scale in 256 columns, not in 32, and that costs a little more."""

    def found() -> list[float]:
        oracle = numpy_model(context, floats)
        return [text_distance(oracle, model, ids).kl_nats for model in (eight, own)]

    distances: list[float] = context.share("quants from float32", found)
    return Match(
        distances[1] <= NEAR_NATS,
        f"{distances[1]:.6f} nats from float32 instead of {distances[0]:.6f}",
    )


EXPERIMENT = Experiment(
    number=14,
    name="quants",
    title="K-quants from their own bits",
    hypothesis="A decoded token waits for its weights: Q4_K and Q6_K in 4.6 and 6.6 bits a weight instead of "
    "8.5 make it at least 1.2 times as fast, with nothing lost of the file's numbers, and unpacking them "
    "costs a prompt at most a fifth of its rate",
    refuted_if="decoding gains less than 1.2x, a prompt loses more than a fifth, or the logits are further "
    f"from NumPy's float32 than {NEAR_NATS} nats, llama.cpp's distance on a real file",
    cases=cases,
    processes=2,
    whole=True,
)
