"""The same random model in every format comes out as the same weights and the same config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llama_core.checkpoint import Checkpoint
from llama_core.loaders import open_checkpoint
from tests.support import model_files

Writer = Callable[[Path, Any], Path]

EXACT: dict[str, Writer] = {
    "gguf": lambda folder, model: model_files.write_gguf(folder / "m.gguf", model),
    "safetensors": lambda folder, model: model_files.write_hf_folder(folder / "hf", model),
    "safetensors in shards": lambda folder, model: model_files.write_hf_folder(
        folder / "hf", model, shards=3
    ),
    "llama2c legacy": lambda folder, model: model_files.write_llama2c(folder / "m.bin", model, 0),
    "llama2c version 1": lambda folder, model: model_files.write_llama2c(folder / "m.bin", model, 1),
    "npz": lambda folder, model: model_files.write_npz(folder / "m.model.npz", model),
    "npz deflated": lambda folder, model: model_files.write_npz(folder / "m.npz", model, compressed=True),
}


def assert_weights(checkpoint: Checkpoint, model: Any, tolerance: float = 0.0) -> None:
    assert set(checkpoint.tensors) == set(model.weights)
    for name, wanted in model.weights.items():
        got = checkpoint.tensors[name].to_float32()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", EXACT)
def test_every_format_gives_the_same_model(tmp_path: Path, kind: str, tied: bool) -> None:
    model = model_files.TinyModel(tied=tied)
    checkpoint = open_checkpoint(EXACT[kind](tmp_path, model))
    assert_weights(checkpoint, model)
    # What a format does not say differs: its own defaults for the norm's epsilon, length and name.
    config = replace(checkpoint.config, name="", norm_eps=1e-5, max_seq_len=model.max_seq_len)
    wanted = {
        "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 8, "n_kv_heads": 4, "head_dim": 8,
        "vocab_size": 300, "max_seq_len": 64, "tie_embeddings": tied, "architecture": "llama",
        "rope_theta": 10000.0,
    }  # fmt: skip
    assert {key: getattr(config, key) for key in wanted} == wanted
    assert checkpoint.file_bytes > 100_000


@pytest.mark.parametrize("group", [32, 64])
def test_llama2c_int8_groups_give_back_the_int8_weights(tmp_path: Path, group: int) -> None:
    """With groups of 64 those of the down projection run over the ends of its rows of 96."""
    model = model_files.TinyModel(tied=False)
    checkpoint = open_checkpoint(model_files.write_llama2c(tmp_path / "m.bin", model, 2, group))
    for weight in model.weights.values():
        if weight.ndim == 2:
            numbers, scales = model_files.int8_groups(weight, group)
            weight[:] = (numbers.astype(np.float32) * scales[:, None]).reshape(weight.shape)
    assert_weights(checkpoint, model)
    assert checkpoint.tensors["layers.0.q_proj"].nbytes < 64 * 64 * 4


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_safetensors_of_16_bits(tmp_path: Path, dtype: str) -> None:
    model = model_files.TinyModel()
    checkpoint = open_checkpoint(model_files.write_hf_folder(tmp_path, model, dtype))
    assert checkpoint.tensors["layers.0.q_proj"].fmt.name == dtype
    assert_weights(checkpoint, model, tolerance=4e-3 if dtype == "BF16" else 1e-3)


@pytest.mark.parametrize("type_name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_gguf_types_come_out_as_the_oracle_reads_them(tmp_path: Path, type_name: str) -> None:
    """Row orders apply to whole rows of blocks, so the reordered blocks dequantise to the same numbers."""
    model = model_files.TinyModel()
    checkpoint = open_checkpoint(model_files.write_gguf(tmp_path / "m.gguf", model, type_name))
    kind = gguf.GGMLQuantizationType[type_name]
    for weight in model.weights.values():
        if weight.ndim == 2:  # a row's blocks do not depend on the rows around it
            weight[:] = gguf.dequantize(gguf.quantize(weight, kind), kind)
    assert_weights(checkpoint, model)


def test_a_part_of_a_larger_buffer_can_be_filled(tmp_path: Path) -> None:
    """How the model fuses q, k and v: rows of one buffer, reordered as they are read."""
    model = model_files.TinyModel()
    checkpoint = open_checkpoint(model_files.write_gguf(tmp_path / "m.gguf", model))
    fused = np.full((66, 64), np.nan, dtype=np.float32)
    checkpoint.tensors["layers.1.q_proj"].to_float32(out=fused[1:65])
    np.testing.assert_array_equal(fused[1:65], model.weights["layers.1.q_proj"])
    assert np.isnan(fused[[0, 65]]).all()


def test_reordered_rows_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_files.TinyModel()
    checkpoint = open_checkpoint(model_files.write_gguf(tmp_path / "m.gguf", model))
    monkeypatch.setattr("llama_core.checkpoint.PIECE_BYTES", 5 * 256)
    np.testing.assert_array_equal(
        checkpoint.tensors["layers.0.k_proj"].to_float32(), model.weights["layers.0.k_proj"]
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_biases_and_norms_of_the_neighbours(tmp_path: Path, architecture: str, bias: bool) -> None:
    """llama files pair RoPE's rows 2j and 2j + 1, biases included; qwen's pair halves."""
    model = model_files.TinyModel(architecture=architecture, bias=bias, qk_norm=architecture == "qwen3")
    from_gguf = open_checkpoint(model_files.write_gguf(tmp_path / "m.gguf", model))
    from_folder = open_checkpoint(model_files.write_hf_folder(tmp_path / "hf", model))
    for checkpoint in (from_gguf, from_folder):
        assert_weights(checkpoint, model)
        assert checkpoint.config.attention_bias is bias
        assert checkpoint.config.qk_norm is (architecture == "qwen3")
        assert checkpoint.config.architecture == architecture


def test_biases_of_every_matrix(tmp_path: Path) -> None:
    model = model_files.TinyModel(bias=True, more_biases=True)
    for path in (
        model_files.write_gguf(tmp_path / "m.gguf", model),
        model_files.write_hf_folder(
            tmp_path / "hf", model, config={"attention_bias": True, "mlp_bias": True}
        ),
    ):
        checkpoint = open_checkpoint(path)
        assert sum(name.endswith(".bias") for name in checkpoint.tensors) == 14
        assert_weights(checkpoint, model)


def test_a_head_size_that_is_not_dim_over_heads(tmp_path: Path) -> None:
    model = model_files.TinyModel(n_heads=3, n_kv_heads=1, head_dim=32)
    for path in (
        model_files.write_gguf(tmp_path / "m.gguf", model),
        model_files.write_hf_folder(tmp_path / "hf", model),
    ):
        checkpoint = open_checkpoint(path)
        assert (checkpoint.config.head_dim, checkpoint.config.q_dim) == (32, 96)
        assert_weights(checkpoint, model)


def test_any_path_into_a_folder_opens_it(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    folder = model_files.write_hf_folder(tmp_path / "hf", model)
    for path in (folder, folder / "config.json", folder / "model.safetensors"):
        assert open_checkpoint(path).path == folder
    (tmp_path / "gguf").mkdir()
    file = model_files.write_gguf(tmp_path / "gguf" / "m.gguf", model)
    assert open_checkpoint(tmp_path / "gguf").path == file
