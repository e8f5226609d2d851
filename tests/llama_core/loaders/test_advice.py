"""How the makers say a model's replies are best drawn: read from both formats, and kept by conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_core.loaders import open_checkpoint, read_model
from llama_core.loaders.advice import sampling_advice, to_gguf
from llama_core.loaders.convert import convert
from tests.support.model_files import TinyModel, write_gguf, write_hf_folder


def test_a_gguf_files_keys(tmp_path: Path) -> None:
    extra = {
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 0.95,
        "general.sampling.min_p": 0.0,
        "general.sampling.penalty_repeat": 1.05,
        "general.sampling.penalty_last_n": 64,
        "general.sampling.mirostat": 2,
    }
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", TinyModel(), extra=extra))
    expected = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0}
    assert checkpoint.sampling == expected | {"repeat_penalty": 1.05, "repeat_last_n": 64}
    assert open_checkpoint(write_gguf(tmp_path / "n.gguf", TinyModel())).sampling == {}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"temperature": 0.6, "top_k": 20, "do_sample": True}, {"temperature": 0.6, "top_k": 20}),
        ({"repetition_penalty": 1.1}, {"repeat_penalty": 1.1, "repeat_last_n": -1}),
        ({"repetition_penalty": 1.0}, {"repeat_penalty": 1.0}),
        ({"do_sample": False, "temperature": 0.6}, {"temperature": 0.0}),
        ({"temperature": -3, "top_p": "high", "top_k": True, "min_p": 1e400}, {}),
        ({"eos_token_id": 2}, {}),
    ],
)
def test_a_folders_generation_config(
    config: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_hf_folder(tmp_path / "m", TinyModel())
    (folder / "generation_config.json").write_text(json.dumps(config))
    model = read_model(folder)
    assert sampling_advice(model) == expected
    (folder / "generation_config.json").write_text("{")
    assert sampling_advice(model) == {}


def test_conversion_keeps_it(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "m", TinyModel())
    advice = {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(advice))
    first = convert(folder, tmp_path / "first.gguf", "f32")
    expected = {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.05, "repeat_last_n": -1}
    assert sampling_advice(read_model(folder)) == expected
    assert sampling_advice(read_model(first)) == expected
    assert sampling_advice(read_model(convert(first, tmp_path / "second.gguf", "q8_0"))) == expected
    assert to_gguf({"typical_p": 0.9}) == {}, "GGUF has no key for it"
