"""What the machine allows a step at most: its memory's bandwidth and its arithmetic's peak in this run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from llama_core.checkpoint import Checkpoint
from llama_core.profiling.lab.experiment import LabContext
from llama_core.roofline.bandwidth import read_bandwidth
from llama_core.roofline.integer_peak import integer_peak
from llama_core.roofline.roofline import TokenCost, float32_peak, token_cost


@dataclass(frozen=True, slots=True)
class Roofline:
    """A backend's costs beside what the machine gave in the same run: bytes read and multiply-adds, each in a
    second (Williams, Waterman and Patterson, Communications of the ACM 52(4), 2009)."""

    cost: TokenCost
    bytes_per_s: float
    multiply_adds_per_s: float

    def decode_s(self, position: float) -> float:
        """Seconds that a token behind `position` others takes at least."""
        return (self.cost.weight_bytes + self.cost.kv_bytes_per_position * position) / self.bytes_per_s

    def batch_s(self, batch: float, position: float) -> float:
        """Seconds of a step over `batch` sequences: the weights are read once, keys and values of each."""
        reading = self.cost.weight_bytes + batch * self.cost.kv_bytes_per_position * position
        return max(reading / self.bytes_per_s, batch * self.cost.multiply_adds / self.multiply_adds_per_s)

    def prefill_s(self, tokens: float) -> float:
        """Seconds that prompts of `tokens` together take at least, by their products alone."""
        return tokens / self.cost.prefill_ceiling(self.multiply_adds_per_s)


def roofline_of(context: LabContext, backend: str, checkpoint: Checkpoint) -> Roofline:
    """Of "numpy" or "jit" with this model. The machine's part is measured once in a run."""
    threads = threads_of(context)
    peak: float = context.share(
        f"peak {backend}", float32_peak if backend == "numpy" else lambda: integer_peak(threads)
    )
    return Roofline(cost_of(backend, checkpoint), bandwidth(context), peak)


def bandwidth(context: LabContext) -> float:
    """Bytes a second, the best of three measurements, made once in a run."""
    threads = threads_of(context)
    best: float = context.share(
        "bandwidth", lambda: max(read_bandwidth(threads).bytes_per_s for _ in range(3))
    )
    return best


def threads_of(context: LabContext) -> int:
    """As many as memory and arithmetic are measured with: the run's, else one for each core."""
    return context.threads or os.cpu_count() or 1


def cost_of(backend: str, checkpoint: Checkpoint) -> TokenCost:
    """NumPy reads float32 weights, the compiled backend the file's own blocks."""
    return token_cost(checkpoint, "float32" if backend == "numpy" else "file")
