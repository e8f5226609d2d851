"""Every block format against the `gguf` package's own dequantiser, bit for bit, on random bytes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from llama_core.quant import dequantize as module
from llama_core.quant.dequantize import DEQUANTIZERS, dequantize
from llama_core.quant.table import BY_NAME, FORMATS, UNREADABLE

# ggml reads these but the Python package does not; they have tests of their own below.
WITHOUT_ORACLE = {"Q8_K", "F64"}
WITH_ORACLE = sorted(set(BY_NAME) - WITHOUT_ORACLE)


def random_blocks(name: str, n_rows: int, blocks_a_row: int, seed: int = 0) -> NDArray[np.uint8]:
    """Any bytes at all: the scales among them are NaN, infinite, subnormal and negative now and then."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n_rows, blocks_a_row * BY_NAME[name].block_bytes), dtype=np.uint8)


def assert_same_bits(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    same = (ours.view(np.uint32) == np.ascontiguousarray(theirs).view(np.uint32)) | (
        np.isnan(ours) & np.isnan(theirs)
    )
    assert same.all(), f"{(~same).sum()} of {same.size} values differ, first at {np.argwhere(~same)[0]}"


def test_the_table_agrees_with_the_oracle() -> None:
    for number, fmt in FORMATS.items():
        oracle = GGMLQuantizationType(number)
        assert oracle.name == fmt.name
        assert gguf.GGML_QUANT_SIZES[oracle] == (fmt.block_size, fmt.block_bytes)
    assert {int(t) for t in GGMLQuantizationType} <= set(FORMATS) | set(UNREADABLE)
    assert set(DEQUANTIZERS) == {*BY_NAME, "Q8_GROUP"}  # the last one is llama2.c's own


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracle's, about NaN scales
@pytest.mark.parametrize("name", WITH_ORACLE)
def test_bits_equal_the_oracle(name: str) -> None:
    fmt = BY_NAME[name]
    # 65,536 blocks of one number see every float16 and bfloat16; 600 larger blocks see every grid point.
    blocks_a_row = 2048 if fmt.block_size == 1 else 20
    raw = random_blocks(name, 32, blocks_a_row)
    assert_same_bits(dequantize(raw, fmt), gguf.dequantize(raw, GGMLQuantizationType[name]))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_16_bit_number(name: str) -> None:
    raw = np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(16, -1)
    assert_same_bits(dequantize(raw, BY_NAME[name]), gguf.dequantize(raw, GGMLQuantizationType[name]))


def test_q8_k_is_scale_times_number() -> None:
    rng = np.random.default_rng(3)
    scale = rng.normal(size=(5, 1)).astype("<f4")
    numbers = rng.integers(-128, 128, (5, 256), dtype=np.int8)
    sums = numbers.reshape(5, 16, 16).sum(axis=2).astype("<i2")
    raw = np.concatenate([scale.view(np.uint8), numbers.view(np.uint8), sums.view(np.uint8)], axis=1)
    assert_same_bits(dequantize(raw, BY_NAME["Q8_K"]), scale * numbers.astype(np.float32))


def test_f64_is_rounded_once() -> None:
    numbers = np.random.default_rng(4).normal(size=(3, 100))
    assert_same_bits(dequantize(numbers.view(np.uint8), BY_NAME["F64"]), numbers.astype(np.float32))


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_out_is_filled_in_place(name: str) -> None:
    """A contiguous part of a larger buffer, and one whose rows are apart, hold what a fresh array would."""
    fmt = BY_NAME[name]
    blocks_a_row = 512 if fmt.block_size == 1 else 3
    raw = random_blocks(name, 7, blocks_a_row, seed=1)
    raw &= 0x3F  # no NaN: the comparison below is exact
    fresh = dequantize(raw, fmt)
    n_values = fresh.shape[1]
    buffer = np.full((9, n_values + 4), 42, dtype=np.float32)
    assert dequantize(raw, fmt, out=buffer[1:8, 2:-2]) is not None
    np.testing.assert_array_equal(buffer[1:8, 2:-2], fresh)
    assert (buffer[0] == 42).all()
    assert (buffer[:, :2] == 42).all()
    assert (buffer[:, -2:] == 42).all()
    whole = np.empty((7, n_values), dtype=np.float32)
    assert dequantize(raw, fmt, out=whole) is whole
    np.testing.assert_array_equal(whole, fresh)


def test_pieces_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = random_blocks("Q4_K", 5, 7) & 0x3F
    whole = dequantize(raw, BY_NAME["Q4_K"])
    monkeypatch.setattr(module, "PIECE_VALUES", 3 * 256)
    np.testing.assert_array_equal(dequantize(raw, BY_NAME["Q4_K"]), whole)
    apart = np.zeros((5, 7 * 256 + 1), dtype=np.float32)
    np.testing.assert_array_equal(dequantize(raw, BY_NAME["Q4_K"], out=apart[:, 1:]), whole)


def test_shapes_that_do_not_fit_are_refused() -> None:
    fmt = BY_NAME["Q4_0"]
    with pytest.raises(ValueError, match="no multiple"):
        dequantize(np.zeros((2, 17), dtype=np.uint8), fmt)
    raw = np.zeros((2, 18), dtype=np.uint8)
    with pytest.raises(ValueError, match="expected float32"):
        dequantize(raw, fmt, out=np.empty((2, 31), dtype=np.float32))
    with pytest.raises(ValueError, match="expected float32"):
        dequantize(raw, fmt, out=np.empty((2, 32), dtype=np.float64))
    with pytest.raises(ValueError, match="no multiple"):
        fmt.row_bytes(33)


def test_a_nan_scale_makes_no_warning() -> None:
    raw = np.full((1, 18), 0xFF, dtype=np.uint8)
    with np.errstate(all="raise"):
        assert np.isnan(dequantize(raw, BY_NAME["Q4_0"])).all()
