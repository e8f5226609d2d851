"""GGUF beyond the plain case: scaling, windows, split models, ignored tensors, the default model's header."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llama_core.config import RopeScaling
from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.gguf.header import read_header
from llama_core.loaders.gguf.split import read_shards
from tests.support import model_files

SCALINGS: dict[str, tuple[dict[str, Any], RopeScaling | None]] = {
    "none": ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, None),
    "factor 1": ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}, None),
    "linear": (
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        RopeScaling("linear", factor=4.0, original_max_seq_len=64),
    ),
    "the old key": (
        {"llama.rope.scale_linear": 2.0},
        RopeScaling("linear", factor=2.0, original_max_seq_len=64),
    ),
    "yarn": (
        {
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 8.0,
            "llama.rope.scaling.original_context_length": 16,
            "llama.rope.scaling.yarn_beta_fast": 16.0,
        },
        RopeScaling("yarn", factor=8.0, original_max_seq_len=16, beta_fast=16.0),
    ),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_rope_scaling(tmp_path: Path, name: str) -> None:
    extra, expected = SCALINGS[name]
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    assert open_checkpoint(path).config.rope_scaling == expected


def test_yarn_temperature_multiplies_the_usual_one(tmp_path: Path) -> None:
    extra = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.attn_factor": 0.5,
    }
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    scaling = open_checkpoint(path).config.rope_scaling
    assert scaling is not None
    assert scaling.attention_factor == pytest.approx(0.5 * (0.1 * np.log(4) + 1))


@pytest.mark.parametrize(
    ("architecture", "window", "expected"),
    [("mistral", 16, 16), ("mistral", 64, 0), ("mistral", 0, 0), ("llama", 16, 0), ("qwen2", 16, 0)],
)
def test_sliding_window(tmp_path: Path, architecture: str, window: int, expected: int) -> None:
    """A window as long as the context is no window. llama.cpp gives llama's and qwen2's files none."""
    extra = {f"{architecture}.attention.sliding_window": window}
    model = model_files.TinyModel(architecture=architecture)
    path = model_files.write_gguf(tmp_path / "m.gguf", model, extra=extra)
    assert open_checkpoint(path).config.sliding_window == expected


def test_keys_that_nothing_reads_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = {"llama.attention.clamp_kqv": 3.0, "llama.expert_used_count": 0}
    open_checkpoint(model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra))
    assert "'llama.attention.clamp_kqv' is not known here" in caplog.text
    assert len(caplog.records) == 1


def test_numbers_by_layer_that_are_alike(tmp_path: Path) -> None:
    extra = {"llama.attention.head_count_kv": [4, 4], "llama.feed_forward_length": [96, 96]}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    assert open_checkpoint(path).config.n_kv_heads == 4


def test_rope_frequencies_in_the_file(tmp_path: Path) -> None:
    divisors = np.array([1, 1, 4, 8], dtype=np.float32)
    model = model_files.TinyModel()
    path = model_files.write_gguf(tmp_path / "m.gguf", model, extra_tensors={"rope_freqs.weight": divisors})
    np.testing.assert_array_equal(open_checkpoint(path).tensors["rope_freqs"].to_float32(), divisors)
    path = model_files.write_gguf(
        tmp_path / "n.gguf", model, extra_tensors={"rope_freqs.weight": divisors[:3]}
    )
    with pytest.raises(ModelFormatError, match=r"rope_freqs.* the config asks for \(4,\)"):
        open_checkpoint(path)


def test_partial_rotation_moves_only_the_rotated_rows(tmp_path: Path) -> None:
    extra = {"llama.rope.dimension_count": 4}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra=extra)
    order = open_checkpoint(path).tensors["layers.0.q_proj"].row_order
    assert order is not None
    assert order[:16].tolist() == [0, 2, 1, 3, 4, 5, 6, 7, 8, 10, 9, 11, 12, 13, 14, 15]


def test_frequencies_that_old_converters_wrote_are_ignored(tmp_path: Path) -> None:
    extra = {"blk.0.attn_rot_embd.weight": np.ones(4, dtype=np.float32)}
    path = model_files.write_gguf(tmp_path / "m.gguf", model_files.TinyModel(), extra_tensors=extra)
    assert "attn_rot_embd" not in " ".join(open_checkpoint(path).tensors)


def test_a_template_is_handed_over(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    for template, expected in (("{{ 1 }}", "{{ 1 }}"), ("", None)):
        path = model_files.write_gguf(tmp_path / "m.gguf", model, extra={"tokenizer.chat_template": template})
        assert open_checkpoint(path).chat_template == expected


# --- split models ---


def write_split(folder: Path, model: Any, n_shards: int) -> list[Path]:
    """What ggml's gguf-split makes: all metadata in the first file, tensors in order over all of them."""
    writer = gguf.GGUFWriter(folder / "whole.gguf", model.architecture, split_max_tensors=-(-20 // n_shards))
    model_files.add_metadata(writer, model_files.gguf_metadata(model))
    for name, value, _ in model_files.gguf_tensors(model, {}, "F32"):
        writer.add_tensor(name, value)
    writer.write_header_to_file(folder / "model.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-*.gguf"))


def test_a_split_model_opens_by_any_of_its_parts(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    parts = write_split(tmp_path, model, 3)
    assert [p.name for p in parts] == [f"model-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    for path in (*parts, tmp_path):
        checkpoint = open_checkpoint(path)
        assert checkpoint.file_bytes == sum(p.stat().st_size for p in parts)
        for name, weight in model.weights.items():
            np.testing.assert_array_equal(checkpoint.tensors[name].to_float32(), weight)


def test_a_split_model_that_is_not_whole(tmp_path: Path) -> None:
    first, second, third = write_split(tmp_path, model_files.TinyModel(), 3)
    other = tmp_path / "other"
    other.mkdir()
    renamed = other / "m.gguf"
    renamed.write_bytes(first.read_bytes())
    with pytest.raises(ModelFormatError, match="is not NAME-00001-of-00003"):
        read_shards(renamed)
    content = third.read_bytes()
    third.write_bytes(second.read_bytes())
    with pytest.raises(ModelFormatError, match="says part 2 of 3, expected 3 of 3"):
        read_shards(first)
    third.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFormatError, match=r"00003-of-00003\.gguf: incomplete, 53,488 of 106,976 bytes"):
        read_shards(second)
    third.unlink()
    with pytest.raises(ModelFormatError, match=r"00003-of-00003\.gguf: file: cannot be opened"):
        read_shards(first)


# --- the default model ---


@pytest.mark.model
def test_the_default_model_opens_as_its_oracle_reads_it(default_model: Path) -> None:
    """Config, every tensor's bits, and a header that is parsed in a fraction of a second."""
    read_header(default_model)  # the file's pages are in memory now
    start = time.thread_time()
    header = read_header(default_model)
    elapsed = time.thread_time() - start
    assert elapsed < 2, "a header that takes this long is parsed by some other code"
    assert len(header.metadata["tokenizer.ggml.tokens"]) == 49152
    assert len(header.metadata["tokenizer.ggml.merges"]) == 48900
    checkpoint = open_checkpoint(default_model)
    config = checkpoint.config
    assert (config.dim, config.hidden_dim, config.n_layers, config.n_heads, config.n_kv_heads) == (
        576,
        1536,
        30,
        9,
        3,
    )
    assert (config.head_dim, config.vocab_size, config.max_seq_len, config.tie_embeddings) == (
        64,
        49152,
        8192,
        True,
    )
    assert len(checkpoint.tensors) == 272
    for name, layer_name in (("q_proj", "attn_q"), ("down_proj", "ffn_down")):
        info = header.tensors[f"blk.29.{layer_name}.weight"]
        wanted = gguf.dequantize(header.raw(info).read(), gguf.GGMLQuantizationType[info.fmt.name])
        tensor = checkpoint.tensors[f"layers.29.{name}"]
        if tensor.row_order is not None:
            wanted = wanted[tensor.row_order]
        np.testing.assert_array_equal(tensor.to_float32(), wanted)
