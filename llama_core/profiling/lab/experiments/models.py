"""The models that experiments share: made once in a run, by the first that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import Cache, Model
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.choices import KvType, WeightForm
from llama_core.loaders import open_checkpoint
from llama_core.profiling.lab.experiment import LabContext
from llama_core.profiling.synthetic import STORIES15M, NoTokenizer, random_checkpoint

if TYPE_CHECKING:
    from llama_core.backends.jit.model import JitLlama
    from llama_core.backends.jit.workspace import Tuning


def stories_checkpoint(context: LabContext) -> Checkpoint:
    """Random weights in stories15M's shape."""
    checkpoint: Checkpoint = context.share(
        "stories15m", lambda: random_checkpoint(STORIES15M, NoTokenizer(), seed=15)
    )
    return checkpoint


def default_checkpoint(context: LabContext) -> Checkpoint | None:
    """The default model's file, opened; None where it is not on this machine."""
    if context.model_path is None:
        return None
    path = context.model_path
    checkpoint: Checkpoint = context.share("default", lambda: open_checkpoint(path))
    return checkpoint


def numpy_model(context: LabContext, checkpoint: Checkpoint) -> Llama:
    """The engine's NumPy model of a checkpoint."""
    model: Llama = context.share(
        f"numpy {checkpoint.path}", lambda: Llama(checkpoint.config, load_weights(checkpoint))
    )
    return model


def compiled_model(
    context: LabContext,
    checkpoint: Checkpoint,
    kv: KvType = "f32",
    *,
    weights: WeightForm = "file",
    isa: str | None = None,
    threads: int | None = None,
    tuning: Tuning | None = None,
) -> JitLlama | str:
    """The compiled model of a checkpoint, or why there is none.

    kv: how its cache keeps numbers; weights: "8bit" makes 8 bits of floats; isa, threads: None for the best,
    and for the run's. tuning: other choices than the model's own.
    """
    from llama_core.backends import jit

    reason = jit.jit_available()
    if reason is not None:
        return reason

    def load() -> JitLlama | str:
        try:
            return jit.load_jit_model(
                checkpoint,
                threads=threads or context.threads,
                kv=kv,
                weights=weights,
                kernel_cache=context.kernel_cache,
                isa=isa,
                tuning=tuning,
            )
        except Exception as error:  # noqa: BLE001 - a compiler's errors have no common base; NumPy's rows stay
            return f"{type(error).__name__}: {error}"

    key = f"jit {checkpoint.path} {kv} {weights} {isa} {threads} {tuning}"
    model: JitLlama | str = context.share(key, load)
    return model


def models(context: LabContext, checkpoint: Checkpoint) -> list[tuple[str, Model]]:
    """Every backend that runs here, NumPy first."""
    compiled = compiled_model(context, checkpoint)
    found: list[tuple[str, Model]] = [("numpy", numpy_model(context, checkpoint))]
    return found if isinstance(compiled, str) else [*found, ("jit", compiled)]


NO_MODEL = "the default model is not on this machine (llama-chat models pull)"


def token_ids(n: int, vocab_size: int, seed: int = 1) -> NDArray[np.int32]:
    """n ids, (n,) int32, without the first few, where control tokens usually stand."""
    low = min(16, vocab_size - 1)
    return np.random.default_rng(seed).integers(low, vocab_size, n).astype(np.int32)


def fill(model: Model, cache: Cache, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Put `ids` into the cache chunk by chunk; the logits after the last one, (vocab_size,), a copy."""
    logits: NDArray[np.float32] = np.empty(0, np.float32)
    for start in range(0, len(ids), model.prefill_chunk):
        stop = min(start + model.prefill_chunk, len(ids))
        logits = model.forward(ids[start:stop], cache, logits="last" if stop == len(ids) else "none")
    return logits.copy()
