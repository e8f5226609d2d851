"""Folders of models that see: their text part opens as a folder of text does, and the rest is told of."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.errors import LlamaCoreError, UnsupportedModelError
from llama_core.loaders import open_checkpoint
from tests.support import model_files
from tests.support.oracle_gguf import read_safetensors

SEES = {
    "vision_tower.blocks.0.attn.q_proj.bias": np.ones(4, np.float32),
    "multi_modal_projector.linear.weight": np.ones((3, 2), np.float32),
}
# How published models name the text model's tensors, by what they are in a folder of text alone.
LAYOUTS: dict[str, Callable[[str], str]] = {
    "below model.language_model": lambda name: name.replace("model.", "model.language_model.", 1),
    "a whole model below language_model": lambda name: "language_model." + name,
    "the text alone": lambda name: name,
}


def with_text_part(plain: Path, folder: Path, rename: Callable[[str], str], **outer: Any) -> Path:
    """The model of `plain` as the text part of one that sees."""
    folder.mkdir()
    config = json.loads((plain / "config.json").read_text())
    values = {"model_type": "sees", "text_config": config, "vision_config": {"depth": 3}, **outer}
    (folder / "config.json").write_text(json.dumps(values))
    tensors = {rename(name): value for name, value in read_safetensors(plain / "model.safetensors").items()}
    if rename("model.") != "model.":
        tensors |= SEES
    stored = {name: ("F32", value) for name, value in tensors.items()}
    (folder / "model.safetensors").write_bytes(model_files.safetensors_bytes(stored))
    (folder / "tokenizer.json").write_bytes((plain / "tokenizer.json").read_bytes())
    return folder


def write(folder: Path, *, tied: bool) -> Path:
    return model_files.write_hf_folder(folder, model_files.TinyModel(tied=tied))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_text_part_is_the_model(
    tmp_path: Path, layout: str, tied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plain = write(tmp_path / "plain", tied=tied)
    wanted = open_checkpoint(plain)
    with caplog.at_level(logging.WARNING):
        got = open_checkpoint(with_text_part(plain, tmp_path / "plain2", LAYOUTS[layout]))
    assert got.tensors.keys() == wanted.tensors.keys()
    assert got.config.tie_embeddings == tied
    for name, tensor in wanted.tensors.items():
        np.testing.assert_array_equal(got.tensors[name].to_float32(), tensor.to_float32())
    told = [record.getMessage() for record in caplog.records]
    if layout == "the text alone":
        assert told == []
    else:
        (said,) = told
        assert "only the text is read; 2 tensors of 'vision_tower', 'multi_modal_projector'" in said


@pytest.mark.parametrize(("text", "outer"), [(False, True), (None, True), (None, None), (False, None)])
def test_a_missing_head_is_tied_whichever_config_speaks_of_it(
    tmp_path: Path, text: bool | None, outer: bool | None
) -> None:
    plain = write(tmp_path / "plain", tied=True)
    config = json.loads((plain / "config.json").read_text())
    config["tie_word_embeddings"] = text
    (plain / "config.json").write_text(json.dumps(config))
    folder = with_text_part(plain, tmp_path / "sees", LAYOUTS["below model.language_model"])
    values = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": outer}
    (folder / "config.json").write_text(json.dumps(values))
    assert open_checkpoint(folder).config.tie_embeddings


def test_what_does_not_run_is_told_with_its_place(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", tied=False)
    rename = LAYOUTS["below model.language_model"]
    folder = with_text_part(plain, tmp_path / "8bit", rename, quantization_config={"quant_method": "fp8"})
    with pytest.raises(UnsupportedModelError, match=r"text_config.quantization_config"):
        open_checkpoint(folder)
    for number, (part, said) in enumerate(
        (
            ({"model_type": "rwkv"}, r"text_config.model_type: is 'rwkv'; llama"),
            ({"model_type": "llama"}, r"text_config.hidden_size: is missing"),
            ("none", r"field text_config: is no object"),
        )
    ):
        folder = with_text_part(plain, tmp_path / str(number), rename, text_config=part)
        with pytest.raises(LlamaCoreError, match=said):
            open_checkpoint(folder)


@pytest.mark.parametrize("model_type", ["qwen2_5_vl_text", "qwen3_vl_text"])
def test_qwens_that_see_are_qwens(model_type: str) -> None:
    """Pictures' positions have three numbers, which for text are one and the same."""
    from llama_core.loaders.huggingface.config import read_config

    family = model_type[:5]
    values = model_files.hf_config(model_files.TinyModel(architecture=family))
    wanted = read_config(Path("config.json"), dict(values), attention_bias=False)
    scaling = {"type": "mrope", "mrope_section": [16, 24, 24]}
    seeing = {**values, "model_type": model_type, "rope_scaling": scaling}
    assert read_config(Path("config.json"), seeing, attention_bias=False) == wanted


def test_gemma_3_s_text_part_says_no_more_than_what_is_different() -> None:
    """As published with Gemma 3 4B."""
    from llama_core.loaders.huggingface.config import read_config

    values = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = read_config(Path("config.json"), values, attention_bias=False, where="text_config.")
    assert (config.n_heads, config.n_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.max_seq_len, config.rope_theta) == (262_208, 131_072, 1e6)
    assert (config.window_rope_theta, config.window_layers[:6]) == (1e4, (True,) * 5 + (False,))
    assert config.rope_scaling is not None
    assert config.rope_scaling.factor == 8.0


@pytest.mark.parametrize("keys", [{"general.architecture": "clip"}, {"general.type": "mmproj"}])
def test_the_part_that_sees_is_no_model(tmp_path: Path, keys: dict[str, Any]) -> None:
    path = model_files.write_gguf(tmp_path / "mmproj.gguf", model_files.TinyModel(), extra=keys)
    with pytest.raises(UnsupportedModelError, match=r"sees or hears \(mmproj\).* the file of the model"):
        open_checkpoint(path)
