"""What Python itself executes: instructions per function, for the engine and for the baseline."""

from __future__ import annotations

import dis
import importlib
import inspect
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from llama_core.profiling.profile.executed import ExecutedStep, executed_steps

ENGINE_MODULES = (
    "llama_core.backends.numpy.model",
    "llama_core.backends.numpy.decoder",
    "llama_core.backends.numpy.attention",
    "llama_core.backends.numpy.ops",
    "llama_core.backends.numpy.activations",
    "llama_core.backends.numpy.scratch",
    "llama_core.backends.numpy.rope",
    "llama_core.backends.numpy.kv_cache",
    "llama_core.sampling.sampler",
    "llama_core.engine.context",
    "llama_core.engine.reply.decoding",
    "llama_core.backends.jit.model",
    "llama_core.tokenizers.merge",
    "llama_core.tokenizers.spm_bpe",
    "llama_core.tokenizers.byte_bpe",
    "llama_core.tokenizers.detokenizer",
)
BASELINE_MODULES = (
    "llama_core.profiling.first_version.model",
    "llama_core.profiling.first_version.tokenizer",
)

# A call with keywords is marked differently from version to version.
_KEYWORD_CALLS = frozenset({"KW_NAMES", "CALL_KW", "CALL_FUNCTION_KW"})
_ATTRIBUTE_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
_BOOKKEEPING = frozenset({"CACHE", "RESUME", "NOP", "EXTENDED_ARG"})


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """Counts of one function, nested ones (lambdas, comprehensions) included."""

    name: str
    instructions: int
    attribute_loads: int
    keyword_calls: int
    opcodes: dict[str, int]


@dataclass(frozen=True, slots=True)
class BytecodeProfile:
    """`engine` and `baseline`: their functions as compiled, the longest first; `steps`: what is really
    executed in a step of either."""

    python: str
    engine: tuple[FunctionCode, ...]
    baseline: tuple[FunctionCode, ...]
    steps: tuple[ExecutedStep, ...] = ()


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def count(name: str, code: types.CodeType) -> FunctionCode:
    """Count the instructions of a code object as the running Python compiles it."""
    opcodes = Counter(
        instruction.opname
        for part in _codes(code)
        for instruction in dis.get_instructions(part)
        if instruction.opname not in _BOOKKEEPING
    )
    return FunctionCode(
        name=name,
        instructions=opcodes.total(),
        attribute_loads=sum(opcodes[opname] for opname in _ATTRIBUTE_LOADS),
        keyword_calls=sum(opcodes[opname] for opname in _KEYWORD_CALLS),
        opcodes=dict(opcodes.most_common()),
    )


def functions_of(module: types.ModuleType) -> Iterator[tuple[str, types.CodeType]]:
    """Functions and methods that a module defines itself, with their qualified names."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value.__code__
        elif inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = member.fget if isinstance(member, property) else member
                # What a decorator such as dataclass wrote has no file of its own.
                if inspect.isfunction(function) and function.__code__.co_filename == module.__file__:
                    yield f"{name}.{attribute}", function.__code__


def profile_bytecode() -> BytecodeProfile:
    """Count every function of the engine's hot modules and of the baseline."""

    def counted(names: tuple[str, ...]) -> tuple[FunctionCode, ...]:
        found = [
            count(f"{'.'.join(module.__name__.split('.')[-2:])}.{name}", code)
            for module in map(importlib.import_module, names)
            for name, code in functions_of(module)
        ]
        return tuple(sorted(found, key=lambda function: -function.instructions))

    return BytecodeProfile(
        sys.version.split()[0], counted(ENGINE_MODULES), counted(BASELINE_MODULES), executed_steps()
    )


def totals(functions: tuple[FunctionCode, ...]) -> FunctionCode:
    """All functions as one."""
    opcodes: Counter[str] = Counter()
    for function in functions:
        opcodes.update(function.opcodes)
    return FunctionCode(
        "all",
        sum(function.instructions for function in functions),
        sum(function.attribute_loads for function in functions),
        sum(function.keyword_calls for function in functions),
        dict(opcodes.most_common()),
    )
