"""Each op against the float64 oracle, and that it answers in float32 into the caller's buffer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from llama_core.backends.numpy import activations, ops
from llama_core.backends.numpy.scratch import feature_major
from tests.support import reference

ROWS = [1, 2, 7]


def random(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * scale).astype(np.float32)


def layouts(rows: int, dim: int) -> list[np.ndarray]:
    """Result buffers in both memory orders: the model uses the second."""
    return [
        np.empty((rows, dim), np.float32),
        feature_major(np.empty(rows * dim + 5, np.float32), rows, dim),
    ]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layout", [0, 1])
def test_linear_is_the_product_with_the_transposed_weight(rows: int, layout: int) -> None:
    x, weight = random(rows, 12), random(20, 12)
    out = layouts(rows, 20)[layout]
    result = ops.linear(x, weight, out)
    assert result is out
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, x.astype(float) @ weight.astype(float).T, atol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layout", [0, 1])
def test_rms_norm(rows: int, layout: int) -> None:
    x, weight = random(rows, 24, scale=3.0), random(24)
    out = layouts(rows, 24)[layout]
    ops.rms_norm(x, weight, 1e-5, out=out)
    assert out.dtype == np.float32
    for row, expected in zip(out, x, strict=True):
        np.testing.assert_allclose(row, reference.rms_norm(expected, weight, 1e-5), atol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
def test_rms_norm_in_place_over_heads(rows: int) -> None:
    heads = random(rows, 3, 8)
    expected = [[reference.rms_norm(head, np.ones(8), 1e-6) for head in row] for row in heads]
    ops.rms_norm(heads, np.ones(8, np.float32), 1e-6, out=heads)
    assert heads.dtype == np.float32
    np.testing.assert_allclose(heads, expected, atol=1e-5)


def test_rms_norm_of_zeros_is_zero() -> None:
    out = np.ones((1, 8), np.float32)
    ops.rms_norm(np.zeros((1, 8), np.float32), np.ones(8, np.float32), 1e-5, out=out)
    assert not out.any()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layout", [0, 1])
def test_swiglu(rows: int, layout: int) -> None:
    gate_up = random(rows, 32, scale=4.0)
    out = layouts(rows, 16)[layout]
    activations.swiglu(gate_up, out=out)
    assert out.dtype == np.float32
    for row, both in zip(out, gate_up, strict=True):
        np.testing.assert_allclose(row, reference.swiglu(both[:16], both[16:]), atol=1e-5, rtol=1e-5)


def test_swiglu_where_exp_overflows() -> None:
    gate_up = np.array([[-200.0, 200.0, 3.0, 3.0]], np.float32)
    with np.errstate(over="ignore"):
        out = activations.swiglu(gate_up, out=np.empty((1, 2), np.float32))
    np.testing.assert_array_equal(out, [[0.0, 600.0]])


def test_softmax_in_place() -> None:
    scores = random(2, 3, 9, scale=30.0)
    given = scores.copy()
    assert ops.softmax(scores) is scores
    assert scores.dtype == np.float32
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(scores[place], reference.softmax(given[place]), atol=1e-6)


def test_softmax_gives_hidden_scores_no_weight() -> None:
    scores = np.array([[-np.inf, 1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(ops.softmax(scores), [[0.0, 0.5, 0.5]])


def test_a_sink_takes_its_share() -> None:
    scores = np.array([[2.0, 1.0], [0.0, 0.0]], np.float32)
    sinks = np.array([[1.0], [90.0]], np.float32)  # one that is less than a score, and one far above
    wanted = [reference.softmax(np.append(row, sink))[:-1] for row, sink in zip(scores, sinks, strict=True)]
    np.testing.assert_allclose(ops.softmax(scores, sinks), wanted, atol=1e-7)


@pytest.mark.parametrize(
    "op",
    [
        lambda x, out: ops.linear(x, np.ones((6, 6), np.float32), out),
        lambda x, out: ops.rms_norm(x, np.ones(6, np.float32), 1e-5, out),
        lambda x, out: activations.swiglu(np.concatenate((x, x), axis=1), out),
    ],
)
@pytest.mark.parametrize("rows", ROWS)
def test_no_op_answers_in_another_type_than_float32(op: Callable[..., np.ndarray], rows: int) -> None:
    x = random(rows, 6)
    result = op(x, np.empty((rows, 6), np.float32))
    assert result.dtype == np.float32


def test_a_plain_vector_is_one_row() -> None:
    """What a decode step passes: the same numbers without the axis."""
    x, weight, norm = random(12), random(20, 12), random(12)
    one = np.empty((1, 20), np.float32)
    ops.linear(x[None], weight, one)
    out = ops.linear(x, weight, np.empty(20, np.float32))
    np.testing.assert_array_equal(out, one[0])
    expected = activations.swiglu(out[None], np.empty((1, 10), np.float32))[0]
    np.testing.assert_array_equal(activations.swiglu(out, np.empty(10, np.float32)), expected)
    expected = ops.rms_norm(x[None], norm, 1e-5, np.empty((1, 12), np.float32))[0]
    np.testing.assert_array_equal(ops.rms_norm(x, norm, 1e-5, np.empty(12, np.float32)), expected)
    assert out.dtype == expected.dtype == np.float32
