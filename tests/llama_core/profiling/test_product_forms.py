"""The rows about matrix products differ in what they ask of the BLAS, not in their names alone."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core.profiling.lab.experiment import LabContext, Row
from llama_core.profiling.lab.experiments import products
from llama_core.profiling.statistics import Interval


class Recorded(np.ndarray):
    """An array that notes what NumPy asks of the BLAS: operands and result as they lie in memory."""

    calls: ClassVar[list[tuple[object, ...]]] = []

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **keywords: Any) -> Any:
        plain = [np.asarray(one) for one in inputs]
        if ufunc is np.matmul:
            outs = [one.strides for one in out]
            self.calls.append(("matmul", *[(one.shape, one.strides) for one in plain], *outs))
        into = {"out": tuple(np.asarray(one) for one in out)} if out else {}
        return getattr(ufunc, method)(*plain, **into, **keywords).view(Recorded)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        plain = [np.asarray(one) if isinstance(one, Recorded) else one for one in args]
        if function is np.dot:
            self.calls.append(("dot", *[(one.shape, one.strides) for one in plain]))
        return function(*plain, **keywords)


def asked(side: products.Rotation) -> tuple[object, ...]:
    Recorded.calls.clear()
    side.product(*(array.view(Recorded) for array in side.layers[0]))
    [call] = Recorded.calls
    return call


@pytest.mark.parametrize("n", [1, 16])
def test_every_form_of_a_product_asks_for_something_else(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "N_LAYERS", 1)
    forms = list(products.form_cases(np.random.default_rng(6), n, 0.01))
    calls = {case.name: asked(case.after) for case in forms}  # type: ignore[arg-type]
    assert len(set(calls.values())) == len(forms)
    for case in forms:
        assert asked(case.before) != calls[case.name]  # type: ignore[arg-type]
    if n == 1:
        [gemm] = [case.before for case in forms if "gemm" in case.name]
        _, *operands = asked(gemm)  # type: ignore[arg-type]
        assert all(1 not in shape for shape, _ in operands)  # type: ignore[misc]


def test_the_rows_carry_the_names_of_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "N_LAYERS", 1)
    names = " | ".join(case.name for case in products.cases(LabContext(budget_s=0.01)))
    for name in (
        "QKV fused",
        "gate and up fused",
        "Fortran instead of C order",
        "out=",
        "transposed weights",
        "2 BLAS threads instead of 1",
        "matvec instead of a gemm over two rows, one of them padding, 1 row",
    ):
        assert name in names


def test_separate_products_are_put_together_by_the_check_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "N_LAYERS", 1)
    for case in products.fusion_cases(np.random.default_rng(6), 2, 0.01):
        parts, whole = case.before(), case.after()
        assert isinstance(parts, list)
        assert case.check(parts, whole).ok
        assert not case.check(parts[::-1], whole).ok


def test_the_conclusion_tells_what_the_engine_does_whichever_order_wins() -> None:
    def row(name: str, ratio: float) -> Row:
        return Row(name, "refuted", "", Interval(ratio, ratio - 0.05, ratio + 0.05))

    rows = [row(f"{products.TRANSPOSED}, 1 row", 1.43), row("out= instead of a new array, 1 row", 1.0)]
    [sentence] = products.conclude(LabContext(), rows)
    assert "were 1.43 (1.38 to 1.48) times as fast for 1 row on this machine; which order wins" in sentence
    assert "The engine keeps the files' order (out, in)" in sentence
    assert products.conclude(LabContext(), rows[1:]) == []
