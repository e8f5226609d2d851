"""Where the bytes are."""

from __future__ import annotations

from llama_core.backends.base import Cache, MemoryReport, Model
from llama_core.engine.drafting.base import Drafter
from llama_core.memory import machine_bytes, resident_bytes


def memory_report(model: Model, cache: Cache, drafter: Drafter | None = None) -> MemoryReport:
    """The account of one model, one cache and what guesses for them, beside the process's resident size."""
    return MemoryReport(
        weights_bytes=model.weights_bytes,
        kv_bytes=cache.nbytes,
        kv_used_bytes=cache.nbytes * cache.length // max(1, cache.capacity),
        scratch_bytes=model.scratch_bytes,
        mapped_bytes=model.mapped_bytes,
        resident_bytes=resident_bytes(),
        draft_bytes=drafter.nbytes if drafter is not None else 0,
        machine_bytes=machine_bytes(),
    )
