"""Prefill and decode rates, each subject in turn: A B A B, so that what disturbs one disturbs the other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import MemoryReport, Model
from llama_core.backends.numpy.weights import ModelWeights
from llama_core.cpu import last_level_cache_bytes
from llama_core.engine.drafting.prompt_lookup import PromptLookup
from llama_core.engine.engine import Engine
from llama_core.events import Finished
from llama_core.profiling.bench.tasks import Task
from llama_core.profiling.statistics import Spread, spread
from llama_core.roofline.bandwidth import read_bandwidth
from llama_core.roofline.integer_peak import integer_peak
from llama_core.roofline.roofline import TokenCost, float32_peak
from llama_core.sampling.params import SamplingParams

SETTLE_S = 0.3


class BusyPrograms:
    """`n` processes that do nothing but compute, for the length of a `with` block."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> BusyPrograms:
        for _ in range(self._n):
            self._running.append(
                subprocess.Popen(
                    # It ends by itself should this process be killed: its parent is another then.
                    [sys.executable, "-c", "import os\np = os.getppid()\nwhile os.getppid() == p: pass"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        if self._running:
            time.sleep(SETTLE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running.clear()


F32 = NDArray[np.float32]
# How a subject multiplies, and so which measured peak bounds its prefill; a peer's kernels are not known.
Arithmetic = Literal["float32", "integer", "unknown"]
PRODUCTS_LABEL = "numpy, products alone"
PAUSE_S = 0.05  # lets the helper threads of the subject before go to sleep


class Subject(Protocol):
    """Something that can be measured: a backend of ours, or a peer."""

    label: str
    threads: int
    cost: TokenCost | None
    arithmetic: Arithmetic

    def can(self, task: Task) -> bool:
        """Whether the task means anything here, and fits."""

    def measure(self, task: Task) -> float:
        """Run the task once from an empty context; its tokens per second."""


class EngineSubject:
    """One of our backends, through the engine, greedy."""

    def __init__(
        self,
        label: str,
        model: Model,
        ctx_size: int,
        cost: TokenCost | None,
        arithmetic: Arithmetic = "unknown",
    ) -> None:
        self.label = label
        self.threads = model.threads
        self.cost = cost
        self.arithmetic = arithmetic
        self._model = model
        self._engine = Engine(model, ctx_size)

    def can(self, task: Task) -> bool:
        """Whether the task fits into the context."""
        return task.context_n <= self._engine.ctx_size

    def measure(self, task: Task) -> float:
        """One run, in tokens per second by the engine's own clock."""
        self._engine.reset()
        self._engine.drafter = PromptLookup() if task.prompt_ids else None
        params = SamplingParams(temperature=0.0, max_tokens=task.generated_n, ignore_eos=not task.stop_ids)
        prompt_ids = task.ids(self._model.config.vocab_size)
        for event in self._engine.generate(prompt_ids, params, stop_ids=task.stop_ids):
            if isinstance(event, Finished):
                timings = event.timings
                return timings.predicted_per_second if task.decodes else timings.prompt_per_second
        raise RuntimeError("The engine's stream ended without its last record.")

    def memory(self) -> MemoryReport:
        """The engine's own account of its bytes."""
        return self._engine.memory()


class ProductsSubject:
    """The plain products of a decode step over the same float32 weights: what is left when attention, norms,
    sampling and Python around them cost nothing. The NumPy backend's decode is held against it."""

    def __init__(self, weights: ModelWeights, threads: int, experts_used: int = 1) -> None:
        """experts_used: how many of a layer's feed-forwards a token takes, where it has several."""
        self.label = PRODUCTS_LABEL
        self.threads = threads
        self.cost: TokenCost | None = None
        self.arithmetic: Arithmetic = "float32"
        self._work: list[tuple[F32, F32, F32]] = []
        matrices = []
        for layer in weights.layers:
            matrices += [layer.in_proj, layer.o_proj]
            for number in range(min(experts_used, len(layer.feed_forwards))):
                taken = layer.feed_forwards[number]
                matrices += [taken.gate_up_proj, taken.down_proj]
        for matrix in (*matrices, weights.lm_head):
            rows, columns = matrix.shape
            self._work.append((matrix, np.ones(columns, np.float32), np.empty(rows, np.float32)))

    def can(self, task: Task) -> bool:
        """Only decoding behind nothing, on a machine that does nothing else: products know no context."""
        return task.decodes and task.prompt_n == 1 and not task.busy

    def measure(self, task: Task) -> float:
        """One run, in tokens per second."""
        started = time.perf_counter()
        for _ in range(task.generated_n):
            for matrix, x, out in self._work:
                np.dot(matrix, x, out=out)
        return task.generated_n / (time.perf_counter() - started)


@dataclass(slots=True)
class Row:
    """A task's runs for one subject, in tokens per second. `ceiling`: what memory allows for decoding, and
    what arithmetic allows for prefill; None where neither is known."""

    task: str
    label: str
    runs: list[float] = field(default_factory=list)
    ceiling: float | None = None

    @property
    def spread(self) -> Spread:
        """Tokens per second: median, least and greatest of the runs."""
        return spread(self.runs)

    def to_json(self) -> dict[str, Any]:
        """The row as `--output json` has it: rates in tokens per second, `of_ceiling` as a fraction."""
        middle = self.spread
        return {
            "row": self.task,
            "backend": self.label,
            "tokens_per_s": middle.median,
            "min": middle.least,
            "max": middle.greatest,
            "runs": self.runs,
            "ceiling_tokens_per_s": self.ceiling,
            "of_ceiling": middle.median / self.ceiling if self.ceiling else None,
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All rows; the read bandwidth (bytes per second) by number of threads and the peak of each arithmetic
    that took part (multiply-adds per second), measured in every round."""

    rows: list[Row]
    bandwidth: dict[int, list[float]]
    bandwidth_method: str
    peaks: dict[Arithmetic, list[float]]

    def row(self, task: str, label: str) -> Row | None:
        """The row of this task and subject; None where it was not run."""
        return next((row for row in self.rows if (row.task, row.label) == (task, label)), None)


def run_bench(
    subjects: Sequence[Subject],
    tasks: Sequence[Task],
    repeat: int,
    on_step: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Each round runs every task on every subject and measures the bandwidth; one unmeasured round first.

    Raises ValueError for repeat below 1, and whatever a subject raises.
    """
    if repeat < 1:
        raise ValueError(f"repeat is {repeat}, expected 1 or more")
    pairs = [(task, subject) for task in tasks for subject in subjects if subject.can(task)]
    rows = {(task.name, subject.label): Row(task.name, subject.label) for task, subject in pairs}
    bandwidth: dict[int, list[float]] = {subject.threads: [] for subject in subjects}
    threads_of = {subject.arithmetic: subject.threads for subject in subjects}
    peaks: dict[Arithmetic, list[float]] = {kind: [] for kind in threads_of if kind != "unknown"}
    method = ""
    steps = (repeat + 1) * len(rows)
    step = 0
    for round_n in range(repeat + 1):
        for threads, measured in bandwidth.items():
            reading = read_bandwidth(threads)
            method = reading.method
            if round_n:
                measured.append(reading.bytes_per_s)
        for kind, found in peaks.items():
            peak = measured_peak(kind, threads_of[kind])
            if round_n:
                found.append(peak)
        for task, subject in pairs:
            time.sleep(PAUSE_S)
            with BusyPrograms(task.busy):
                rate = subject.measure(task)
            if round_n:  # the first round warms caches and compiles
                rows[task.name, subject.label].runs.append(rate)
            step += 1
            if on_step is not None:
                on_step(step, steps)
    for task, subject in pairs:
        bytes_per_s = spread(bandwidth[subject.threads]).median
        rows[task.name, subject.label].ceiling = ceiling(task, subject, bytes_per_s, peaks)
    return BenchResult(list(rows.values()), bandwidth, method, peaks)


def measured_peak(kind: Arithmetic, threads: int) -> float:
    """Multiply-adds per second. (NumPy's backend has set the BLAS to its own threads.)"""
    return float32_peak() if kind == "float32" else integer_peak(threads)


def ceiling(
    task: Task, subject: Subject, bytes_per_s: float, peaks: Mapping[Arithmetic, Sequence[float]]
) -> float | None:
    """Tokens per second that the machine allows; for a reply, half way through the generated stretch.
    None where neither memory nor a measured arithmetic is the limit."""
    if subject.cost is None:
        return None
    if task.decodes:
        middle = task.prompt_n + task.generated_n // 2
        # What a cache holds does not come from memory, and guessed tokens share a reading of the weights.
        if task.prompt_ids or subject.cost.bytes_at(middle) < last_level_cache_bytes():
            return None
        return subject.cost.decode_ceiling(bytes_per_s, middle)
    if subject.arithmetic not in peaks:
        return None
    return subject.cost.prefill_ceiling(spread(peaks[subject.arithmetic]).median)
