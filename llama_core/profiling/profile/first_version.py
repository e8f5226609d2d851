"""Where a first version's seconds go: its tokenizer's `list.index`, its float64 products, under cProfile."""

from __future__ import annotations

import cProfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llama_core.errors import UnsupportedModelError
from llama_core.loaders import open_checkpoint
from llama_core.profiling.first_version.model import BaselineLlama
from llama_core.profiling.first_version.tokenizer import first_encode
from llama_core.profiling.profile.inference import FunctionRow, Phase, function_rows
from llama_core.profiling.texts import TEXT


@dataclass(frozen=True, slots=True)
class FirstVersionProfile:
    """Phases without cProfile, functions of a second run under it; pstats: what `python -m pstats` reads."""

    prompt_n: int
    generated_n: int
    phases: tuple[Phase, ...]
    functions: tuple[FunctionRow, ...]
    pstats: bytes = field(repr=False)


def profile_first_version(
    path: Path,
    tokenizer_path: Path | None,
    prompt_n: int,
    generated_n: int,
    prompt: str | None = None,
    top_functions: int = 20,
) -> FirstVersionProfile:
    """Load a file into the first version, encode, and generate greedily. For `in_fresh_process`.

    prompt: a text, else plain English cut to `prompt_n` tokens. Raises what loading raises, and
    UnsupportedModelError for what first versions lack.
    """
    start = time.perf_counter()
    checkpoint = open_checkpoint(path, tokenizer_path)
    encode = first_encode(checkpoint)
    if encode is None:
        raise UnsupportedModelError(
            path, "tokenizer", "is none that first versions have: BPE by scores or ranks"
        )
    text = prompt or TEXT * (prompt_n // 32 + 1)
    limit = checkpoint.config.max_seq_len - generated_n
    model = BaselineLlama(checkpoint, min(checkpoint.config.max_seq_len, 4096))
    loaded = time.perf_counter()
    ids = encode(text)[: limit if prompt else prompt_n]
    encoded = time.perf_counter()
    reply = model.generate(ids, generated_n)
    n = int(next(reply, None) is not None)
    first = time.perf_counter()
    n += sum(1 for _ in reply)
    last = time.perf_counter()

    def whole() -> None:
        again = encode(text)[: len(ids)]
        for _ in model.generate(again, generated_n):
            pass

    profiler = cProfile.Profile()
    profiler.runcall(whole)
    functions, stats = function_rows(profiler, top_functions)
    return FirstVersionProfile(
        prompt_n=len(ids),
        generated_n=n,
        phases=(
            Phase("model loading", loaded - start, checkpoint.file_bytes, "B"),
            Phase("tokenisation", encoded - loaded, int(np.size(ids)), "tok"),
            Phase("prefill", first - encoded, len(ids), "tok"),
            Phase("decode", last - first, max(0, n - 1), "tok"),
        ),
        functions=functions,
        pstats=stats,
    )
