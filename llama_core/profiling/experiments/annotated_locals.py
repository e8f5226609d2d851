"""Experiment 2: do annotated locals cost anything?"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from llama_core.profiling import baseline
from llama_core.profiling.experiment import SAME, Case, Experiment, LabContext, Row


class _StripLocals(ast.NodeTransformer):
    """`x: T = value` becomes `x = value`; a bare `x: T` goes."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


def build(function: Callable[..., Any], *, annotated: bool) -> types.FunctionType:
    """The function compiled again from its source, with or without annotated locals.

    Both sides take this way, so that nothing but the annotations differs. The module's postponed
    annotations are left off: what is tested is the plain statement `x: T = value`.
    """
    tree = ast.parse(inspect.getsource(function))
    if not annotated:
        tree = ast.fix_missing_locations(_StripLocals().visit(tree))
    namespace = dict(vars(sys.modules[function.__module__]))
    exec(compile(tree, "<lab>", "exec", dont_inherit=True), namespace)
    result = namespace[function.__name__]
    if not isinstance(result, types.FunctionType):
        raise TypeError(f"{function!r} is no plain function")
    return result


FUNCTIONS = (baseline.softmax, baseline.silu, baseline.apply_rope)


def same_bytecode(function: Callable[..., Any]) -> bool:
    return (
        build(function, annotated=True).__code__.co_code == build(function, annotated=False).__code__.co_code
    )


def cases(context: LabContext) -> Iterator[Case]:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((1, 6, 32, 32))
    q = rng.standard_normal((1, 32, 6, 48))
    cos, sin = baseline.rope_tables(48, 32, 10000.0)
    inputs: dict[str, tuple[Any, ...]] = {
        "softmax": (scores,),
        "silu": (scores,),
        "apply_rope": (q, q, cos, sin),
    }
    for function in FUNCTIONS:
        arguments = inputs[function.__name__]
        with_them, without = build(function, annotated=True), build(function, annotated=False)
        yield Case(
            name=f"{function.__name__}, annotated locals removed",
            before=partial(with_them, *arguments),
            after=partial(without, *arguments),
            claim=SAME,
            headline=function is baseline.apply_rope,
            note="bytecode identical" if same_bytecode(function) else "bytecode differs",
        )


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """Whether the bytecode differs, on the Python that runs."""
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return [
        f"{function.__name__}: bytecode with and without annotated locals is "
        f"{'identical' if same_bytecode(function) else 'different'} on {version}"
        for function in FUNCTIONS
    ]


EXPERIMENT = Experiment(
    number=2,
    name="annotations",
    title="Annotated locals",
    hypothesis="An annotation on a local is never evaluated, so removing annotations changes nothing",
    refuted_if="the bytecode differs, or the ratio lies outside 0.95 to 1.05",
    cases=cases,
    conclude=conclude,
)
