"""Which bytecode Python really executes while a function runs, counted instruction by instruction.

By `sys.monitoring` (PEP 669) where Python has it, from 3.12 on; before that by a trace function that asks for
each instruction, which is slower and counts the same.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ExecutedCode:
    """A function: how often it was called (a generator: resumed), and the instructions executed in it."""

    name: str
    calls: int
    instructions: int


@dataclass(frozen=True, slots=True)
class ExecutedStep:
    """One step of a model: the functions, the most instructions first, and how many layers it has."""

    name: str
    n_layers: int
    functions: tuple[ExecutedCode, ...]

    @property
    def instructions(self) -> int:
        """Bytecode instructions of all functions."""
        return sum(function.instructions for function in self.functions)

    @property
    def calls(self) -> int:
        """Calls of all functions."""
        return sum(function.calls for function in self.functions)


def executed(function: Callable[[], Result]) -> tuple[tuple[ExecutedCode, ...], Result]:
    """What this thread executes in `function()`, without `function`'s own frame, and its result.

    Raises what `function` raises.
    """
    calls: Counter[CodeType] = Counter()
    instructions: Counter[CodeType] = Counter()
    watch = _by_monitoring if hasattr(sys, "monitoring") else _by_tracing
    result = watch(function, calls, instructions)
    own = getattr(function, "__code__", None)
    found = [
        ExecutedCode(f"{Path(code.co_filename).stem}.{code.co_qualname}", calls[code], n)
        for code, n in instructions.items()
        if code is not own and code.co_filename != __file__
    ]
    return tuple(sorted(found, key=lambda code: (-code.instructions, code.name))), result


def _by_tracing(
    function: Callable[[], Result], calls: Counter[CodeType], instructions: Counter[CodeType]
) -> Result:
    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            calls[frame.f_code] += 1
        elif event == "opcode":
            instructions[frame.f_code] += 1
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        return function()
    finally:
        sys.settrace(before)


def _by_monitoring(
    function: Callable[[], Result], calls: Counter[CodeType], instructions: Counter[CodeType]
) -> Result:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # from 3.12 on
    events, tool = monitoring.events, monitoring.PROFILER_ID

    def count(counter: Counter[CodeType]) -> Callable[[CodeType, int], None]:
        def add(code: CodeType, offset: int) -> None:
            counter[code] += 1

        return add

    monitoring.use_tool_id(tool, "llama-core")
    try:
        for event, counter in (
            (events.PY_START, calls),
            (events.PY_RESUME, calls),
            (events.INSTRUCTION, instructions),
        ):
            monitoring.register_callback(tool, event, count(counter))
        monitoring.set_events(tool, events.PY_START | events.PY_RESUME | events.INSTRUCTION)
        return function()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


def executed_steps() -> tuple[ExecutedStep, ...]:
    """A prefill of 16 tokens and a decode step of the NumPy engine and of the first version, both on random
    weights in few narrow layers: what Python executes depends on the layers, not on their sizes."""
    import numpy as np

    from llama_core.backends.numpy.model import Llama
    from llama_core.backends.numpy.weights import load_weights
    from llama_core.profiling.first_version.model import BaselineLlama
    from llama_core.profiling.synthetic import STORIES15M, NoTokenizer, random_checkpoint

    narrow = replace(STORIES15M, dim=48, hidden_dim=96, head_dim=8, rope_dim=0, vocab_size=64)
    checkpoint = random_checkpoint(narrow, NoTokenizer())
    n_layers, prompt = checkpoint.config.n_layers, np.arange(20, 36, dtype=np.int32)
    engine = Llama(checkpoint.config, load_weights(checkpoint), 1)
    cache = engine.new_cache(32)
    first = BaselineLlama(checkpoint, 32)
    try:
        engine.forward(prompt, cache)  # tables that are made at the first use
        cache.truncate(0)
        steps: list[tuple[str, Callable[[], Any]]] = [
            ("engine, prefill", lambda: engine.forward(prompt, cache)),
            ("engine, decode", lambda: engine.forward(prompt[:1], cache)),
            ("first version, prefill", lambda: first(prompt[None], 0)),
            ("first version, decode", lambda: first(prompt[None, :1], 16)),
        ]
        return tuple(ExecutedStep(name, n_layers, executed(step)[0]) for name, step in steps)
    finally:
        engine.close()
