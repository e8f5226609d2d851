"""Our quantisers against the `gguf` package's, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from llama_core.quant.dequantize import dequantize
from llama_core.quant.quantize import QUANTIZERS, quantize
from llama_core.quant.table import BY_NAME


def sample(seed: int) -> NDArray[np.float32]:
    """Rows of many sizes of numbers, of zeros, of one number, of ties, and with a single outlier."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(64, 256)) * 10.0 ** rng.integers(-6, 4, (64, 1))
    rows[0] = 0
    rows[1] = 0.25
    rows[2] = rng.integers(-8, 8, 256) / 2  # halves: where rounding modes differ
    rows[3, ::32] = 1e4
    rows[4] = -0.0
    return rows.astype(np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracle's own division by zero
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_bytes_equal_the_oracle(name: str, seed: int) -> None:
    values = sample(seed)
    ours = quantize(values, BY_NAME[name])
    theirs = gguf.quantize(values, GGMLQuantizationType[name]).view(np.uint8).reshape(64, -1)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "worst"), [("F32", 0), ("F16", 1e-3), ("Q8_0", 0.6 / 127), ("Q4_0", 1 / 7), ("Q4_1", 1 / 14)]
)
def test_there_and_back_is_within_a_step(name: str, worst: float) -> None:
    values = np.random.default_rng(9).uniform(-1, 1, (16, 64)).astype(np.float32)
    back = dequantize(quantize(values, BY_NAME[name]), BY_NAME[name])
    assert np.abs(back - values).max() <= worst


def test_what_cannot_be_written() -> None:
    good = np.zeros((2, 32), dtype=np.float32)
    with pytest.raises(ValueError, match="Q4_K cannot be written"):
        quantize(good, BY_NAME["Q4_K"])
    with pytest.raises(ValueError, match="no multiple"):
        quantize(good[:, :31], BY_NAME["Q8_0"])
    for bad in (np.nan, np.inf):
        values = good.copy()
        values[1, 5] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            quantize(values, BY_NAME["Q8_0"])
