"""The subjects of a benchmark run: models loaded side by side over the same file, and closed together."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.choices import KvType
from llama_core.events import LoadProgress
from llama_core.profiling.bench.ik import IkSubject
from llama_core.profiling.bench.llama_cpp import LlamaCppSubject
from llama_core.profiling.bench.run import EngineSubject, ProductsSubject, Subject
from llama_core.roofline.roofline import token_cost


@dataclass(frozen=True, slots=True)
class Choice:
    """backends: "jit", "numpy". kvs: the cache's types, one after another with jit. kernel_cache: the folder
    of compiled kernels. llama_cpp: measure it too; ik: the same of ik_llama.cpp, by its `llama-bench`."""

    backends: tuple[str, ...]
    threads: int
    ctx_size: int
    kvs: tuple[KvType, ...] = ("f32",)
    kernel_cache: Path | None = None
    llama_cpp: bool = False
    ik: Path | None = None

    @property
    def models(self) -> list[tuple[str, KvType]]:
        """Each backend with each type of cache it is to be measured with."""
        found: list[tuple[str, KvType]] = []
        for backend in self.backends:
            found += [(backend, kv) for kv in (self.kvs if backend == "jit" else ("f32",))]
        return found


class Subjects:
    """Loads every subject; a context manager that closes them. Raises what loading raises."""

    def __init__(self, checkpoint: Checkpoint, choice: Choice) -> None:
        self.all: list[Subject] = []
        self._stack = contextlib.ExitStack()
        try:
            for backend, kv in choice.models:
                self._add(backend, kv, checkpoint, choice)
            if choice.llama_cpp:
                cost = token_cost(checkpoint, "file")
                peer = LlamaCppSubject(checkpoint.path, choice.threads, choice.ctx_size, cost)
                self._stack.callback(peer.close)
                self.all.append(peer)
            if choice.ik is not None:
                cost = token_cost(checkpoint, "file")
                self.all.append(IkSubject(choice.ik, checkpoint.path, choice.threads, cost))
        except BaseException:  # Ctrl+C too: models that are loaded have threads
            self._stack.close()
            raise

    def _add(self, backend: str, kv: KvType, checkpoint: Checkpoint, choice: Choice) -> None:
        if backend == "numpy":
            weights = load_weights(checkpoint, _ignore, choice.threads)
            model = Llama(checkpoint.config, weights, choice.threads)
            self._stack.callback(model.close)
            cost = token_cost(checkpoint, "float32")
            self.all.append(EngineSubject("numpy", model, choice.ctx_size, cost, "float32"))
            used = checkpoint.config.n_experts_used or 1
            self.all.append(ProductsSubject(weights, model.threads, used))
            return
        from llama_core.backends.jit import load_jit_model

        compiled = load_jit_model(
            checkpoint,
            threads=choice.threads,
            kv=kv,
            kernel_cache=choice.kernel_cache,
            on_progress=_ignore,
        )
        self._stack.callback(compiled.close)
        cost = token_cost(checkpoint, "file", kv)
        if compiled.weights_bytes < cost.weight_bytes:  # packed smaller than they stand in the file
            cost = replace(cost, weight_bytes=compiled.weights_bytes)
        # "jit avx512vnni (Q4_1 as q4m, ...)": the table has room for the first part.
        label = compiled.backend.partition(" (")[0] + ("" if kv == "f32" else f" kv {kv}")
        self.all.append(EngineSubject(label, compiled, choice.ctx_size, cost, "integer"))

    def __enter__(self) -> Subjects:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _ignore(progress: LoadProgress) -> None:
    pass
