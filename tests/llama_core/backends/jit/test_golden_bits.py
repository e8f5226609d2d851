"""The compiled backend's logits, bit for bit those that are on record in golden_bits.json.

The same bits on every processor and for every cut into calls are a promise of the backend; that they are the
same from one version to the next is what this test adds. A change that means to alter the arithmetic writes
the file anew, and says so in its commit: LLAMA_CORE_GOLDEN=write.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.architectures import tensor_shapes
from llama_core.backends.jit import load_jit_model
from llama_core.backends.jit.model import JitLlama
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.choices import KV_TYPES
from llama_core.config import ModelConfig
from llama_core.loaders import open_checkpoint
from llama_core.profiling.random_gguf import random_blocks
from llama_core.quant.table import BY_NAME

RECORD = Path(__file__).with_name("golden_bits.json")
WRITES = os.environ.get("LLAMA_CORE_GOLDEN") == "write"
SHAPE: dict[str, Any] = {
    "dim": 64,
    "hidden_dim": 96,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 16,
    "vocab_size": 130,
    "max_seq_len": 512,
}
STATES: dict[str, Any] = {
    "recurrent_layers": (True, False),
    "conv_kernel": 4,
    "state_heads": 4,
    "state_head_dim": 16,
    "state_dim": 32,
    "state_groups": 2,
}
# Blocks of 256 columns, and Q8_0 with blocks of 32: matrices of both sorts are among them.
WIDE = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "Q8_0")
WIDE_SHAPE: dict[str, Any] = {"dim": 256, "hidden_dim": 512, "n_heads": 4, "head_dim": 64}
BIASES = ("o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias")
# Weights by type, cache by type, and what else a layer may have.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{f"{fmt} {kv}": (fmt, kv, {}) for fmt in ("Q4_0", "Q4_1", "Q8_0") for kv in KV_TYPES},
    "biases": ("Q8_0", "f32", {"attention_bias": True, "dim": 96}),
    "qk_norm, window": ("Q8_0", "f32", {"qk_norm": True, "sliding_window": 15}),
    "experts": ("Q8_0", "f32", {"n_experts": 6, "n_experts_used": 2}),
    "short convolutions": ("Q8_0", "f32", {**STATES, "architecture": "lfm2", "qk_norm": True}),
    "delta rule, gated attention": ("Q8_0", "f32", {**STATES, "architecture": "qwen35", "qk_norm": True}),
    "mamba2": ("Q8_0", "f32", {**STATES, "architecture": "granitehybrid"}),
    "K-quants": ("wide", "bf16", WIDE_SHAPE),
    "untied, partly rotated": ("Q4_0", "f32", {"tie_embeddings": False, "head_dim": 32, "rope_dim": 16}),
}
IDS = (np.arange(150) * 37 % 130).astype(np.int32)


def checkpoint_of(toys: SimpleNamespace, fmt: str, changes: dict[str, Any]) -> Checkpoint:
    """Random weights that depend on nothing but the tensors' names."""
    config = ModelConfig(**{**SHAPE, **changes})
    present = [f"layers.0.{name}" for name in BIASES if config.attention_bias]
    tensors = {}
    for name, shape in tensor_shapes(config, present):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.uniform(-1, 1, shape).astype(np.float32)
        values = 1 + values / 8 if len(shape) == 1 else values * np.float32(1.7 / np.sqrt(shape[1]))
        if name.endswith(".decay"):  # a memory that grew would have no bound
            values = -values
        if fmt == "wide" and len(shape) == 2:
            chosen = BY_NAME[WIDE[zlib.crc32(name.encode()) % len(WIDE)]]
            blocks = random_blocks(chosen, values.size // chosen.block_size, float(values.std()), rng)
            tensors[name] = Tensor(name, shape, chosen, blocks.reshape(shape[0], -1))
        else:
            tensors[name] = toys.tensor(name, values, "F32" if fmt == "wide" else fmt)
    tokenizer: Any = None
    return Checkpoint(Path("toy"), "toy", 0, config, tensors, tokenizer, None)


def bits(*rows: np.ndarray) -> str:
    """A name for the very bits of some logits."""
    assert all(row.dtype == np.float32 and np.isfinite(row).all() for row in rows)
    return hashlib.sha256(b"".join(np.ascontiguousarray(row).tobytes() for row in rows)).hexdigest()


def golden(model: JitLlama, ids: np.ndarray) -> dict[str, str]:
    """The bits of prefill (many tokens, then few), of decode behind it, and of a batch of sequences."""
    cache = model.new_cache(256)
    prefill = [
        model.forward(ids[a:b], cache, logits="all").copy() for a, b in ((0, 64), (64, 128), (128, 140))
    ]
    decode = [model.forward(ids[i : i + 1], cache).copy() for i in range(140, 146)]
    draft = model.forward(ids[146:149], cache, logits="all").copy()
    caches = [model.new_cache(64) for _ in range(3)]
    cut = ((ids[:5], caches[0]), (ids[40:41], caches[1]), (ids[50:59], caches[2]))
    batch = model.forward_batch(cut).copy()
    return {"prefill": bits(*prefill), "decode": bits(*decode, draft), "batch": bits(batch)}


def check(name: str, found: dict[str, str]) -> None:
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if WRITES:
        RECORD.write_text(json.dumps({**recorded, name: found}, indent=1) + "\n")
    else:
        assert found == recorded[name]


@pytest.mark.parametrize("case", CASES)
def test_toys_give_the_bits_on_record(toys: SimpleNamespace, case: str) -> None:
    fmt, kv, changes = CASES[case]
    check(case, golden(toys.load(checkpoint_of(toys, fmt, changes), kv=kv), IDS))


@pytest.fixture(params=KV_TYPES)
def default(request: pytest.FixtureRequest, default_model: Path, kernel_cache: Path) -> Iterator[JitLlama]:
    checkpoint = open_checkpoint(default_model)
    model = load_jit_model(checkpoint, threads=2, kernel_cache=kernel_cache, kv=request.param)
    yield model
    model.close()


@pytest.mark.model
def test_the_default_model_gives_the_bits_on_record(
    default: JitLlama, request: pytest.FixtureRequest
) -> None:
    kv = request.node.callspec.params["default"]
    ids = (np.arange(150) * 317 % 40000).astype(np.int32)
    check(f"default model {kv}", golden(default, ids))
