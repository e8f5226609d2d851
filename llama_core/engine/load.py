"""From a model file to an engine that is ready."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_core.backends.base import Model
from llama_core.backends.step_watch import StepWatch
from llama_core.checkpoint import Checkpoint
from llama_core.choices import BACKENDS, DEFAULT_KV, KV_TYPES, Backend, KvType, WeightForm
from llama_core.cores import usable_cores
from llama_core.engine.drafting.prompt_lookup import PromptLookup
from llama_core.engine.text import TextEngine
from llama_core.errors import KernelsUnavailableError, LlamaCoreError, UnsupportedModelError
from llama_core.events import LoadProgress
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.templates.worker import SHARED

OnProgress = Callable[[LoadProgress], None]

_log = logging.getLogger(__name__)


def load_engine(
    path: Path | str,
    *,
    backend: Backend = "auto",
    threads: int | None = None,
    ctx_size: int | None = None,
    kv: KvType | None = None,
    weights: WeightForm = "file",
    tokenizer_path: Path | None = None,
    think_markers: tuple[str, str] | None = None,
    kernel_cache: Path | None = None,
    on_progress: OnProgress | None = None,
    watch: StepWatch | None = None,
) -> TextEngine:
    """Open a model file and make it ready.

    backend: "jit" compiles its kernels with Numba, "numpy" needs nothing, "auto" takes jit where it can run.
    threads: None for the backend's own choice. ctx_size: see Engine. kv: the cache's type (all but "f32"
    are the compiled backend's); None for the backend's own choice. weights: "8bit" makes 8 bits of float
    weights there. tokenizer_path: for formats that do not carry the tokenizer. think_markers: see
    TextEngine. kernel_cache: a folder for compiled kernels. on_progress hears of each stage.
    watch: adds up what the operations of the model's steps take while it is on.

    Raises ModelFormatError, UnsupportedModelError, NotEnoughMemoryError, OSError; LlamaCoreError when "jit"
    is asked for and cannot run; ValueError for an unknown backend or kv type.
    """
    from llama_core.loaders import open_checkpoint

    if backend not in BACKENDS:
        raise ValueError(f"the backend is {backend!r}, expected {' or '.join(BACKENDS)}")
    if kv not in (None, *KV_TYPES):
        raise ValueError(f"the kv type is {kv!r}, expected {' or '.join(KV_TYPES)}")
    if kv not in (None, "f32") and backend == "numpy":
        raise ValueError(f"the numpy backend keeps its cache in f32; kv {kv} needs the jit backend")
    checkpoint = open_checkpoint(Path(path), tokenizer_path)
    _build_tables_aside(checkpoint.tokenizer)
    if checkpoint.chat_template is not None:
        SHARED.start()  # it starts while weights are packed, not before the first prompt
    model = None
    if backend != "numpy":
        load = jit_model if backend == "jit" else _jit_model_if_it_runs
        model = load(checkpoint, threads, kv or DEFAULT_KV, weights, kernel_cache, on_progress, watch)
    if model is None:
        model = _numpy_model(checkpoint, threads, on_progress, watch)
    try:
        engine = TextEngine(checkpoint, model, ctx_size, think_markers)
        if model.backend.startswith("jit"):
            # Its logits do not depend on how many rows are computed at once, so guessing changes no reply.
            engine.engine.drafter = PromptLookup()
        return engine
    except BaseException:  # Ctrl+C too: the model has threads
        model.close()
        raise


def _build_tables_aside(tokenizer: Tokenizer) -> None:
    """Let another thread build what encoding needs, which a tokenizer does on first use.

    Packing weights holds no interpreter lock, and waits for memory most of the time.
    """
    aside = ThreadPoolExecutor(1, thread_name_prefix="tokenizer-tables")
    # What it may raise, the first to encode a text is told again.
    aside.submit(tokenizer.encode, "Once upon a time", special=True)
    aside.shutdown(wait=False)


def _numpy_model(
    checkpoint: Checkpoint, threads: int | None, on_progress: OnProgress | None, watch: StepWatch | None
) -> Model:
    from llama_core.backends.numpy.clocked import clocked
    from llama_core.backends.numpy.model import Llama
    from llama_core.backends.numpy.weights import load_weights

    weights = load_weights(checkpoint, on_progress, threads or min(4, usable_cores()))
    if watch is None:
        return Llama(checkpoint.config, weights, threads)
    return Llama(checkpoint.config, weights, threads, lambda layer: clocked(watch.wrap, layer))


def jit_model(
    checkpoint: Checkpoint,
    threads: int | None,
    kv: KvType,
    weights: WeightForm,
    kernel_cache: Path | None,
    on_progress: OnProgress | None = None,
    watch: StepWatch | None = None,
) -> Model:
    """The compiled model. Raises KernelsUnavailableError where none runs here, UnsupportedModelError where
    this one does not, and what `load_engine` raises of files and memory."""
    from llama_core.backends import jit

    if (reason := jit.jit_available()) is not None:
        raise KernelsUnavailableError(f"the compiled backend cannot run here: {reason}")
    try:
        return jit.load_jit_model(
            checkpoint,
            threads=threads,
            kv=kv,
            weights=weights,
            kernel_cache=kernel_cache,
            on_progress=on_progress,
            watch=watch,
        )
    except (LlamaCoreError, MemoryError, OSError):
        raise
    except Exception as error:  # the compiler's errors have no common base
        _log.info("the compiled backend failed", exc_info=True)  # who catches it tells the person
        raise KernelsUnavailableError(f"the compiled backend failed: {error}") from error


def _jit_model_if_it_runs(
    checkpoint: Checkpoint,
    threads: int | None,
    kv: KvType,
    weights: WeightForm,
    kernel_cache: Path | None,
    on_progress: OnProgress | None,
    watch: StepWatch | None,
) -> Model | None:
    """The same; None where NumPy is to run instead."""
    from llama_core.backends import jit

    if jit.jit_available() is not None:
        return None
    try:
        return jit_model(checkpoint, threads, kv, weights, kernel_cache, on_progress, watch)
    except UnsupportedModelError:  # of a shape that the kernels do not take
        return None
    except KernelsUnavailableError as error:
        _log.warning("%s; NumPy runs instead", error)
        return None
