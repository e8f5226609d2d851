"""The NumPy backend's greedy ids and logits, those that are on record in golden.json.

A toy of each family, and of each type of weights. The BLAS sums in an order of its own, so that logits are
the same within a tolerance, and greedy ids wherever no two logits are that close. A change that means to
alter the arithmetic writes the file anew, and says so in its commit: LLAMA_CORE_GOLDEN=write.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.architectures import tensor_shapes
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.profiling.random_gguf import SCALES, random_blocks
from llama_core.quant.table import BY_NAME
from tests.llama_core.architectures.test_families import FAMILIES, SHAPE

RECORD = Path(__file__).with_name("golden.json")
WRITES = os.environ.get("LLAMA_CORE_GOLDEN") == "write"
TOLERANCE = 1e-4
STEPS = 12
SHOWN = slice(0, 60, 10)  # of a row of logits

LLAMAS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama untied": {"tie_embeddings": False, "rope_dim": 4},
    "mistral": {"sliding_window": 9},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 16},
}
# Blocks of 256 numbers fit the rows of these.
WIDE = {**SHAPE, "dim": 256, "hidden_dim": 256, "n_layers": 2, "head_dim": 64, "n_heads": 4, "n_kv_heads": 2}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    **{name: ({**SHAPE, "architecture": name.split()[0], **more}, "F32") for name, more in LLAMAS.items()},
    **{name: ({**SHAPE, "architecture": name, **more}, "F32") for name, more in FAMILIES.items()},
    **{f"llama {fmt}": (WIDE, fmt) for fmt in ("F16", "BF16", "MXFP4", *SCALES)},
}


def checkpoint_of(config: ModelConfig, fmt: str) -> Checkpoint:
    """Random weights that depend on nothing but the tensors' names and the type of matrices."""
    tensors = {}
    for name, shape in tensor_shapes(config, []):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        kind = BY_NAME["F32" if len(shape) == 1 else fmt]
        rows, columns = (1, shape[0]) if len(shape) == 1 else shape
        if kind.name == "F32":
            values = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
            raw = (1 + values / 8 if rows == 1 else values * np.float32(2.5 * columns**-0.5)).view(np.uint8)
        else:
            raw = random_blocks(kind, rows * columns // kind.block_size, 1.5 * columns**-0.5, rng)
        tensors[name] = Tensor(name, shape, kind, raw.reshape(rows, -1))
    tokenizer: Any = None
    return Checkpoint(Path("toy"), "toy", 0, config, tensors, tokenizer, None)


class TooCloseError(Exception):
    """Two logits are so close that another BLAS may draw the other token: take another prompt."""


def golden(model: Llama, factor: int) -> dict[str, Any]:
    """Logits behind a prompt of 40 tokens, which `factor` chooses, and behind the last of a greedy reply, and
    the reply's ids. Raises TooCloseError."""
    cache = model.new_cache(64)
    row = model.forward((np.arange(40) * factor % 61).astype(np.int32), cache)
    prompt, ids = row[SHOWN].round(5).tolist(), []
    for _ in range(STEPS):
        second, first = np.sort(row)[-2:]
        if first - second < 10 * TOLERANCE:
            raise TooCloseError
        ids.append(int(row.argmax()))
        row = model.forward(np.array(ids[-1:], np.int32), cache)
    return {"factor": factor, "prompt": prompt, "ids": ids, "reply": row[SHOWN].round(5).tolist()}


def first_clear(model: Llama) -> dict[str, Any]:
    """Of the first prompt whose reply is the same by any BLAS."""
    for factor in range(37, 60):
        with contextlib.suppress(TooCloseError):
            return golden(model, factor)
    raise TooCloseError


@pytest.mark.parametrize("case", CASES)
def test_toys_give_what_is_on_record(case: str) -> None:
    shape, fmt = CASES[case]
    config = ModelConfig(**shape)
    model = Llama(config, load_weights(checkpoint_of(config, fmt)), threads=1)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if WRITES:
        found = first_clear(model)
        lines = (f"{json.dumps(name)}: {json.dumps(one)}" for name, one in {**recorded, case: found}.items())
        RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    assert case in recorded, "nothing is on record: run this file once with LLAMA_CORE_GOLDEN=write"
    wanted = recorded[case]
    found = golden(model, wanted["factor"])
    assert found["ids"] == wanted["ids"]
    for name in ("prompt", "reply"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=TOLERANCE)


def test_nothing_is_on_record_that_is_not_computed() -> None:
    assert set(json.loads(RECORD.read_text())) == set(CASES)
