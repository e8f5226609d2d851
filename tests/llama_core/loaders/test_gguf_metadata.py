"""GGUF files whose header is sound but whose metadata or tensors make no model that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import open_checkpoint
from tests.support import model_files

METADATA_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no architecture": ({"general.architecture": 3}, "general.architecture': is no string"),
    "another architecture": ({"general.architecture": "bloom"}, "'bloom'; llama, mistral, mistral3, qwen2"),
    "block_count 10^6": ({"llama.block_count": 10**6}, "block_count.: is 1,000,000, expected 1 to 1,024"),
    "block_count 0": ({"llama.block_count": 0}, "n_layers is 0"),
    "block_count missing": ({"llama.block_count": None}, "llama.block_count': is missing"),
    "block_count of the wrong type": ({"llama.block_count": "two"}, "expected a whole number"),
    "more layers than tensors": ({"llama.block_count": 3}, "layers.2.input_layernorm: is missing"),
    "fewer layers than tensors": ({"llama.block_count": 1}, "blk.1"),
    "heads that do not divide": ({"llama.attention.head_count_kv": 3}, "no multiple of n_kv_heads 3"),
    "odd head": ({"llama.attention.key_length": 7, "llama.attention.value_length": 7}, "must be even"),
    "width": ({"llama.embedding_length": 128}, "the config asks for"),
    "rotating more than a head": ({"llama.rope.dimension_count": 16}, "must be even and fit"),
    # Found by the fuzzer: the order of the rows was made before the shapes had been compared.
    "2^20 heads of 2^20": (
        {
            "llama.attention.head_count": 1 << 20,
            "llama.attention.key_length": 1 << 20,
            "llama.attention.value_length": 1 << 20,
            "llama.rope.dimension_count": 1 << 20,
        },
        "the config asks for",
    ),
    "epsilon 0": ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "norm_eps is 0.0"),
    "epsilon NaN": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "expected a finite number"),
    "scaling of an unknown kind": (
        {"llama.rope.scaling.type": "dynamic", "llama.rope.scaling.factor": 4.0},
        "'dynamic' scaling; linear, llama3, yarn, longrope would work",
    ),
    "scaling of an unknown kind, without a factor": (
        {"llama.rope.scaling.type": "dynamic"},
        "metadata key 'llama.rope.scaling': asks for 'dynamic' scaling",
    ),
    "longrope without its tensors": (
        {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 4.0},
        "rope_scaling has 0 factors for 4 pairs",
    ),
    "scaling by a negative factor": (
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": -1.0},
        "factor is -1.0",
    ),
    "experts of which none is used": ({"llama.expert_count": 8}, "n_experts_used is 0 of n_experts 8"),
    "another value length": ({"llama.attention.value_length": 16}, "differs from the key length 8"),
    "heads by layer": ({"llama.attention.head_count": [8, 4]}, "differs from layer to layer"),
    "heads in words": ({"llama.attention.head_count_kv": "x"}, "expected a whole number"),
    "template of the wrong type": ({"tokenizer.chat_template": 3}, "chat_template: is no string"),
    "scores of the wrong type": (
        {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": ["a", "b"]},
        "tokenizer.ggml.scores",
    ),
}


@pytest.mark.parametrize("name", METADATA_CASES)
def test_metadata_that_makes_no_model(tmp_path: Path, name: str) -> None:
    extra, message = METADATA_CASES[name]
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    with pytest.raises(ModelFormatError, match=message):
        open_checkpoint(path)


def test_a_tensor_that_the_model_would_leave_out_is_refused(tmp_path: Path) -> None:
    extra = {"blk.0.attn_sinks.weight": np.zeros(8, dtype=np.float32)}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra_tensors=extra)
    with pytest.raises(UnsupportedModelError, match=r"blk\.0\.attn_sinks\.weight.*has no place"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("attn_output", r"layers\.1\.o_proj\.bias"), ("ffn_gate", r"layers\.0\.up_proj\.bias")],
)
def test_a_bias_belongs_to_every_layer_and_to_its_whole_group(
    tmp_path: Path, name: str, missing: str
) -> None:
    size = 96 if name == "ffn_gate" else 64
    extra = {f"blk.0.{name}.bias": np.zeros(size, dtype=np.float32)}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra_tensors=extra)
    with pytest.raises(ModelFormatError, match=f"tensor {missing}: is missing"):
        open_checkpoint(path)
