"""What a row means for a whole step: the operation's share of it, and share and ratio together.

The step is the NumPy engine's, taken apart once for each model and phase by the profiler. Be T its time, o
that of the operation in it, n the calls that it needs, b and a a call's seconds before and after:

    step as before  T - o + n b          share     n b / (T - o + n b)
    step as after   T - o + n a          whole     (T - o + n b) / (T - o + n a)

(Amdahl's law, AFIPS 1967, with every number measured in the same run.) An operation that wins 4 times and is
0.4 % of a step gains the step 0.3 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from llama_core.errors import LlamaCoreError
from llama_core.profiling.fresh_process import in_fresh_process
from llama_core.profiling.lab.experiment import Case, Effect, LabContext, Part, Row

# Tokens of a reply over which a decode step is averaged.
REPLY = 24


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one step, and of each operation in it."""

    whole_s: float
    operations_s: dict[str, float]


def effect_of(case: Case, row: Row, context: LabContext) -> Effect | None:
    """The effect of a measured case that is a part of a step; None where that step cannot be measured."""
    part = case.part
    if part is None or row.before_s is None or row.after_s is None:
        return None
    if part.model == "default" and context.model_path is None:
        return None
    key = replace(part, operations=(), calls=0.0)
    try:
        step: StepTimes = context.share(f"step {key}", partial(_measured, context, key))
    except (LlamaCoreError, OSError, RuntimeError):  # of the model's file; the row stands without it
        return None
    rest_s = step.whole_s - sum(step.operations_s.get(name, 0.0) for name in part.operations)
    if rest_s <= 0:
        return None
    before_s = rest_s + part.calls * row.before_s.median
    after_s = rest_s + part.calls * row.after_s.median
    return Effect(1 - rest_s / before_s, before_s / after_s, step_name(part))


def step_name(part: Part) -> str:
    """As sentences name it: "a prefill of 64 tokens of the default model"."""
    model = "the default model" if part.model == "default" else "a model of stories15M's shape"
    if part.phase == "prefill":
        return f"a prefill of {part.tokens:,} tokens of {model}"
    return f"a decode step of {model}"


def _measured(context: LabContext, part: Part) -> StepTimes:
    return in_fresh_process(measure_step, context.fresh(), part)


def measure_step(context: LabContext, part: Part) -> StepTimes:
    """In a process of its own: one step of the NumPy engine, taken apart."""
    from llama_core.blas import BlasThreads
    from llama_core.engine.engine import Engine
    from llama_core.profiling.lab.experiments.models import (
        default_checkpoint,
        numpy_model,
        stories_checkpoint,
        token_ids,
    )
    from llama_core.profiling.profile.operations import profile_operations

    blas = BlasThreads(context.threads)
    checkpoint = default_checkpoint(context) if part.model == "default" else stories_checkpoint(context)
    assert checkpoint is not None  # `effect_of` has looked
    engine = Engine(numpy_model(context, checkpoint), min(part.tokens + REPLY, checkpoint.config.max_seq_len))
    ids = token_ids(max(1, engine.ctx_size - REPLY), checkpoint.config.vocab_size).tolist()
    table = profile_operations(engine, ids, REPLY)[part.phase]
    steps = 1 if part.phase == "prefill" else REPLY - 1
    blas.restore()
    return StepTimes(table.total_s / steps, {row.name: row.seconds / steps for row in table.rows})
