"""Random models: right sizes and mixes, valid blocks, the same bytes each time, and files that open."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.config import ModelConfig
from llama_core.loaders import open_checkpoint
from llama_core.profiling import random_gguf as made
from llama_core.profiling.random_gguf import MIXES, random_blocks, vocabulary_keys
from llama_core.profiling.synthetic import SHAPES, tensor_shapes
from llama_core.quant.dequantize import dequantize
from llama_core.quant.table import BY_NAME
from llama_core.roofline.roofline import token_cost

# 256 columns, so that K-quants fit; 192 of them in down_proj, so that they do not.
SMALL = ModelConfig(
    dim=256, hidden_dim=192, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=600, max_seq_len=64
)


@pytest.mark.parametrize("name", sorted({mix.base for mix in MIXES.values()} | set(made.SCALES)))
def test_random_blocks_are_numbers_of_the_size_asked_for(name: str) -> None:
    fmt = BY_NAME[name]
    n = 40_000 // fmt.block_size
    values = dequantize(random_blocks(fmt, n, 0.02, np.random.default_rng(3)), fmt)
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(0.02, rel=0.1)
    assert abs(values.mean()) < 0.003
    assert len(np.unique(values)) > (16 if name == "MXFP4" else 100)


def test_a_type_without_known_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="IQ1_M cannot be made"):
        random_blocks(BY_NAME["IQ1_M"], 4, 1.0, np.random.default_rng(0))


# Published files of Llama 3.1 8B and SmolLM2 135M, in bytes; the header with the vocabulary takes some MB.
@pytest.mark.parametrize(
    ("shape", "type_name", "published"),
    [
        ("8b", "Q2_K", 3_179_136_416),
        ("8b", "Q3_K_M", 4_018_922_400),
        ("8b", "Q4_K_S", 4_692_673_952),
        ("8b", "Q4_K_M", 4_920_739_232),
        ("8b", "Q5_K_M", 5_732_992_416),
        ("8b", "Q6_K", 6_596_011_424),
        ("8b", "Q8_0", 8_540_775_840),
        ("135m", "Q4_K_M", 105_454_432),
    ],
)
def test_a_mix_is_as_large_as_a_published_file(shape: str, type_name: str, published: int) -> None:
    config, mix, total = SHAPES[shape], MIXES[type_name], 0
    for name, of in tensor_shapes(config, ()):
        fmt = BY_NAME["F32"] if len(of) == 1 else mix.fmt(name, of[1], config)
        total += fmt.row_bytes(of[-1]) * (of[0] if len(of) == 2 else 1)
    header = published - total
    assert 0 < header < (2 << 20 if shape == "135m" else 8 << 20)


def test_experts_stand_in_one_tensor_and_a_token_costs_those_that_it_takes(tmp_path: Path) -> None:
    config = replace(
        SMALL, architecture="qwen3moe", qk_norm=True, n_experts=8, n_experts_used=2, hidden_dim=256
    )
    checkpoint = open_checkpoint(made.random_gguf(tmp_path / "moe.gguf", config, "Q4_K_M"))
    types = {name: tensor.fmt.name for name, tensor in checkpoint.tensors.items()}
    assert types["layers.0.router"] == "F32"
    assert (types["layers.0.experts.7.up_proj"], types["layers.1.experts.7.down_proj"]) == ("Q4_K", "Q6_K")
    first, other = (checkpoint.tensors[f"layers.0.experts.{e}.up_proj"] for e in (0, 1))
    assert (first.rows() != other.rows()).any()
    model = Llama(config, load_weights(checkpoint), threads=1)
    assert np.isfinite(model.forward(np.arange(5, dtype=np.int32), model.new_cache(8))).all()
    cost = token_cost(checkpoint, "float32")
    dense = replace(config, architecture="qwen3", n_experts=0, n_experts_used=0, hidden_dim=2 * 256)
    of_dense = open_checkpoint(made.random_gguf(tmp_path / "dense.gguf", dense, "Q4_K_M"))
    routers = config.n_layers * config.n_experts * config.dim
    assert cost.multiply_adds == token_cost(of_dense, "float32").multiply_adds + routers


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        made.random_gguf(path, SMALL, "Q4_K_M", seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "there.gguf"
    path.write_bytes(b"kept")
    assert made.random_gguf(path, SMALL, "Q8_0") == path
    assert path.read_bytes() == b"kept"


def test_a_random_model_opens_and_computes(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = made.random_gguf(
        tmp_path / "q4.gguf", SMALL, "Q4_K_M", on_progress=lambda *step: steps.append(step)
    )
    assert steps == [(n, 20) for n in range(21)]
    checkpoint = open_checkpoint(path)
    types = {name: tensor.fmt.name for name, tensor in checkpoint.tensors.items()}
    # Of two layers the second is in the last eighth, the sensitive part; 192 columns are no K-quant's.
    assert (types["layers.0.v_proj"], types["layers.1.v_proj"]) == ("Q4_K", "Q6_K")
    assert (types["layers.0.down_proj"], types["layers.1.down_proj"]) == ("Q5_0", "Q8_0")
    assert (types["embed_tokens"], types["norm"]) == ("Q6_K", "F32")
    text = "any text at all: 12 \N{SNOWMAN}"
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode(text)) == text
    model = Llama(checkpoint.config, load_weights(checkpoint), 1)
    logits = model.forward(np.array([5, 6, 7], np.int32), model.new_cache(8))
    assert np.isfinite(logits).all()
    assert logits.std() > 0.1


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match=r"takes 0\.0 GB, and 0\.0 GB are free") as raised:
        made.random_gguf(tmp_path / "none.gguf", SMALL, "Q8_0")
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.glob("*.gguf*")) == []


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown type 'Q9_K'; F32, F16"):
        made.random_gguf(tmp_path / "none.gguf", SMALL, "Q9_K")


def test_a_vocabulary_has_room_for_the_bytes() -> None:
    with pytest.raises(ValueError, match="no room for 256 bytes"):
        vocabulary_keys(511)
    keys = vocabulary_keys(900)
    tokens = keys["tokenizer.ggml.tokens"]
    assert len(tokens) == len(set(tokens)) == 900
    assert len(keys["tokenizer.ggml.merges"]) == 900 - 512


STATES: dict[str, Any] = {
    "recurrent_layers": (True, False),
    "conv_kernel": 4,
    "state_heads": 8,
    "state_head_dim": 32,
    "state_dim": 64,
    "state_groups": 4,
}


@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("qwen35", {"qk_norm": True}),
        ("lfm2", {"qk_norm": True, "state_heads": 0, "state_head_dim": 0, "state_dim": 0, "state_groups": 0}),
        ("granitehybrid", {"rope_layers": (False, False), "state_groups": 1}),
    ],
)
def test_families_with_states_are_made_too(tmp_path: Path, family: str, own: dict[str, Any]) -> None:
    """Filters stay float32, decays fade, and the numbers stay numbers over a long text."""
    config = replace(SMALL, max_seq_len=512, **{**STATES, "architecture": family, "name": "model", **own})
    checkpoint = open_checkpoint(made.random_gguf(tmp_path / "m.gguf", config, "Q4_K_M"))
    assert replace(checkpoint.config, norm_eps=config.norm_eps) == config  # a float32 in the file
    assert checkpoint.tensors["layers.0.conv"].fmt.name == "F32"
    assert checkpoint.tensors["layers.0.o_proj"].fmt.name == "Q4_K"
    model = Llama(config, load_weights(checkpoint))
    ids = np.random.default_rng(0).integers(0, 500, 400).astype(np.int32)
    cache = model.new_cache(400)
    rows = [model.forward(ids[i : i + 200], cache, logits="all").copy() for i in (0, 200)]
    assert 0.1 < np.abs(rows[1]).max() < 100
