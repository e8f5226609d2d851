"""Every experiment of the core, by number. The eleventh needs the screen and is added by the command."""

from __future__ import annotations

from llama_core.profiling.lab.experiment import Experiment
from llama_core.profiling.lab.experiments import (
    annotated_locals,
    attention,
    batching,
    compiled,
    drafting,
    dtype,
    kernels,
    kv_types,
    loading,
    memory,
    packed_types,
    products,
    rope,
    scaling,
    together,
    tokenizer,
)


def experiments() -> list[Experiment]:
    """All of them, in order of their numbers."""
    modules = (
        rope,
        annotated_locals,
        tokenizer,
        together,
        dtype,
        products,
        memory,
        batching,
        compiled,
        scaling,
        kv_types,
        kernels,
        packed_types,
        loading,
        drafting,
        attention,
    )
    return sorted((module.EXPERIMENT for module in modules), key=lambda experiment: experiment.number)
