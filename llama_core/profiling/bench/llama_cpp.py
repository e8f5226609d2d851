"""llama.cpp as a subject of the benchmark, through the package llama-cpp-python where it is installed."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.profiling.bench.run import Arithmetic
from llama_core.profiling.bench.tasks import Task, random_ids
from llama_core.roofline.roofline import TokenCost

LABEL = "llama.cpp"


def peer_available() -> str | None:
    """None when llama.cpp can be measured here, else the reason in a sentence."""
    import importlib.util

    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed here (dependency group `peers`)."
    return None


class LlamaCppSubject:
    """llama.cpp at its best setting: flash attention on, the same threads for prompt and reply.

    Its decode rates leave out sampling (the next ids are fixed beforehand), which favours it a little; only
    the copying task takes the likeliest token, as it must.
    """

    def __init__(self, path: Path, threads: int, ctx_size: int, cost: TokenCost | None) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        self.label = f"{LABEL} {llama_cpp.__version__}"
        self.threads = threads
        self.cost = cost
        self.arithmetic: Arithmetic = "unknown"
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        defaults = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), defaults)
        if not self._model:
            raise RuntimeError(f"llama.cpp could not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = ctx_size
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp could not make a context")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._ctx_size = ctx_size

    def can(self, task: Task) -> bool:
        """Whether the task fits into the context."""
        return task.context_n <= self._ctx_size

    def measure(self, task: Task) -> float:
        """One run, in tokens per second."""
        api = self._api
        api.llama_memory_clear(api.llama_get_memory(self._context), True)
        prompt = task.ids(self._vocab_size)
        started = time.perf_counter()
        for first in range(0, len(prompt), 512):
            self._decode(prompt[first : first + 512])
        prompt_s = time.perf_counter() - started
        if not task.decodes:
            return task.prompt_n / prompt_s
        # As in our engine, the first generated token comes with the prompt: n tokens take n - 1 steps.
        fixed = random_ids(task.generated_n - 1, self._vocab_size)
        following = self._greedy(task) if task.prompt_ids else iter(fixed)
        steps = 0
        started = time.perf_counter()
        for token in following:
            self._decode([token])
            steps += 1
        return steps / (time.perf_counter() - started)

    def _greedy(self, task: Task) -> Iterator[int]:
        """The likeliest token after what was computed last, up to an end token or the task's limit."""
        for _ in range(task.generated_n - 1):
            pointer = self._api.llama_get_logits_ith(self._context, -1)
            token = int(np.ctypeslib.as_array(pointer, shape=(self._vocab_size,)).argmax())
            if token in task.stop_ids:
                return
            yield token

    def _decode(self, ids: list[int]) -> None:
        array = (self._api.llama_token * len(ids))(*ids)
        code = self._api.llama_decode(self._context, self._api.llama_batch_get_one(array, len(ids)))
        self._api.llama_synchronize(self._context)
        if code != 0:
            raise RuntimeError(f"llama_decode answered {code}")

    def close(self) -> None:
        """Free the model and its context."""
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)
