"""Experiment 2: do annotated locals cost anything?"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from llama_core.profiling.first_version import model as baseline
from llama_core.profiling.lab.experiment import SAME, Case, Check, Experiment, LabContext, Match, arrays_match


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


def alike(first: types.FunctionType, second: types.FunctionType) -> Check:
    """Outputs that match, and the same bytecode on the Python that runs."""
    same_bytecode = first.__code__.co_code == second.__code__.co_code

    def check(before: Any, after: Any) -> Match:
        outputs = arrays_match()(before, after)
        text = f"{outputs.text}, the bytecode {'identical too' if same_bytecode else 'differs'}"
        return Match(outputs.ok and same_bytecode, text)

    return check


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
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
            check=alike(with_them, without),
            headline=function is baseline.apply_rope,
            why="the compiler drops annotations of locals (PEP 526): there is nothing to execute",
        )


EXPERIMENT = Experiment(
    number=2,
    name="annotations",
    title="Annotated locals",
    hypothesis="An annotation on a local is never evaluated, so removing annotations changes nothing, "
    "neither the bytecode nor the time (0.95x to 1.05x)",
    refuted_if="the bytecode or the outputs differ, or the ratio lies outside 0.95 to 1.05",
    cases=cases,
    processes=3,
)
