"""Hugging Face folders: what config.json and the index may say, and what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.config import RopeScaling
from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint
from tests.support import model_files

Change = Callable[[Path], None]


def edit_json(name: str, **changes: Any) -> Change:
    def apply(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        values.update(changes)
        (folder / name).write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))

    return apply


def add_tensor(folder: Path, name: str, dtype: str, shape: list[int], n_bytes: int) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + n_bytes]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + bytes(n_bytes))


def rename_weights(folder: Path, *names: str) -> None:
    """model.safetensors under the first name, and further files without a tensor."""
    (folder / "model.safetensors").rename(folder / names[0])
    for name in names[1:]:
        (folder / name).write_bytes(struct.pack("<Q", 2) + b"{}")


FOLDERS: dict[str, tuple[Change, str]] = {
    "config without a type": (edit_json("config.json", model_type=...), "model_type: is missing"),
    "another model": (
        edit_json("config.json", model_type="gpt_neox"),
        "'gpt_neox'; llama, mistral, mixtral",
    ),
    "config of the wrong kind": (edit_json("config.json", hidden_size="64"), "hidden_size: is '64'"),
    "config with a huge number": (edit_json("config.json", rms_norm_eps=10**400), "expected a finite number"),
    "config that is a list": (
        lambda f: f.joinpath("config.json").write_text("[]") and None,
        "expected an object",
    ),
    "config that is no JSON": (lambda f: f.joinpath("config.json").write_text("{") and None, "is no JSON"),
    # Found by the fuzzer: whole numbers that no float can hold.
    "a length of 400 digits": (
        edit_json(
            "config.json",
            rope_scaling={"type": "linear", "factor": 2.0, "original_max_position_embeddings": 10**400},
        ),
        "original_max_position_embeddings: has more than 63 bits",
    ),
    "a head of 400 digits": (edit_json("config.json", head_dim=10**400), "head_dim: has more than 63 bits"),
    "layers": (edit_json("config.json", num_hidden_layers=10**6), "num_hidden_layers: is 1,000,000"),
    "one layer more": (
        edit_json("config.json", num_hidden_layers=3),
        r"layers\.2\.input_layernorm: is missing",
    ),
    "one layer less": (edit_json("config.json", num_hidden_layers=1), r"model\.layers\.1"),
    "quantised": (
        edit_json("config.json", quantization_config={"bits": 4}),
        "unquantised model or a GGUF file",
    ),
    "another activation": (edit_json("config.json", hidden_act="gelu"), "'gelu'; silu would work"),
    "vocabulary": (edit_json("config.json", vocab_size=301), r"\(300, 64\), the config asks for \(301, 64\)"),
    "scaling of an unknown kind": (
        edit_json("config.json", rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
        "'dynamic' scaling; linear, llama3, yarn, longrope would work",
    ),
    "longrope with too few factors": (
        edit_json(
            "config.json", rope_scaling={"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
        ),
        "rope_scaling has 1 factors for 4 pairs",
    ),
    "scaling without a factor": (
        edit_json("config.json", rope_scaling={"type": "linear"}),
        "rope_scaling.factor: is missing",
    ),
    "scaling that is a list": (edit_json("config.json", rope_scaling=[1]), "rope_scaling: is no object"),
    "an output bias in one layer only": (
        lambda f: add_tensor(f, "model.layers.0.self_attn.o_proj.bias", "F32", [64], 256),
        r"layers\.1\.o_proj\.bias: is missing",
    ),
    "a tensor of another model": (
        lambda f: add_tensor(f, "model.layers.0.self_attn.sinks", "F32", [8], 32),
        "self_attn.sinks.*has no place",
    ),
    "weights of whole numbers": (
        lambda f: (
            add_tensor(f, "lm_head.weight", "I8", [300, 64], 300 * 64)
            or edit_json("config.json", tie_word_embeddings=False)(f)
        ),
        "has type I8; a model in F32, F16 or BF16 would work",
    ),
    "two names for one tensor": (
        lambda f: add_tensor(f, "norm.weight", "F32", [64], 256),
        "occurs twice under two names",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "neither config.json"),
    "two files without an index, none called model": (
        lambda f: rename_weights(f, "a.safetensors", "b.safetensors"),
        r"2 \.safetensors files, no model\.safetensors and no .*name one of them: 'a.safetensors', 'b.safe",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no 'tokenizer.json' beside the model"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_no_model(tmp_path: Path, name: str) -> None:
    change, message = FOLDERS[name]
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel())
    change(folder)
    with pytest.raises(ModelFormatError, match=message):
        open_checkpoint(folder)


INDEXES: dict[str, tuple[Any, str]] = {
    "no map": ({}, "weight_map: does not map"),
    "a map to numbers": ({"weight_map": {"a": 1}}, "weight_map: does not map"),
    "a path out of the folder": (
        {"weight_map": {"a": "../x.safetensors"}},
        "no plain .safetensors file name",
    ),
    "an absolute path": ({"weight_map": {"a": "/etc/passwd"}}, "no plain .safetensors file name"),
    "a file that is missing": ({"weight_map": {"a": "x.safetensors"}}, "cannot be opened"),
    "a tensor that is elsewhere": (
        {"weight_map": {"nothing": "model-00001-of-00002.safetensors"}},
        "'nothing': is missing; the index says it is here",
    ),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_lies(tmp_path: Path, name: str) -> None:
    content, message = INDEXES[name]
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(), shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match=message):
        open_checkpoint(folder)


CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the defaults of old files": (
        {"num_key_value_heads": None, "head_dim": None, "rope_theta": None, "hidden_act": None},
        {"n_kv_heads": 8, "head_dim": 8, "rope_theta": 10000.0},
    ),
    "mistral's window": ({"model_type": "mistral", "sliding_window": 16}, {"sliding_window": 16}),
    "a window that is null": ({"model_type": "mistral", "sliding_window": None}, {"sliding_window": 0}),
    "qwen's window, switched off": (
        {"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False},
        {"sliding_window": 0},
    ),
    "theta in the newer table": (
        {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rope_theta": 5e5, "rope_scaling": None},
    ),
    "theta beside a table without it": (
        {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 5e5, "rope_scaling": None},
    ),
    "theta beside an empty table": ({"rope_theta": 5e5, "rope_parameters": {}}, {"rope_theta": 5e5}),
    "scaling beside a table without it": (
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 5e5}},
        {
            "rope_theta": 5e5,
            "rope_scaling": RopeScaling("linear", factor=2.0, original_max_seq_len=64),
        },
    ),
    "partial rotation in the newer table": (
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_dim": 4},
    ),
    "partial rotation in its older place": ({"partial_rotary_factor": 0.5}, {"rope_dim": 4}),
    "a window, which llama does not have": ({"sliding_window": 16}, {"sliding_window": 0}),
    "a tied head": ({"tie_word_embeddings": True}, {"tie_embeddings": True}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_understood(tmp_path: Path, name: str) -> None:
    changes, expected = CONFIGS[name]
    model = model_files.TinyModel(n_kv_heads=8)
    checkpoint = open_checkpoint(model_files.write_hf_folder(tmp_path / "hf", model, config=changes))
    assert {key: getattr(checkpoint.config, key) for key in expected} == expected


def test_llama3_and_yarn_scaling(tmp_path: Path) -> None:
    llama3 = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    model = model_files.TinyModel()
    folder = model_files.write_hf_folder(tmp_path / "a", model, config={"rope_scaling": llama3})
    scaling = open_checkpoint(folder).config.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_max_seq_len) == ("llama3", 8.0, 32)
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.25}
    folder = model_files.write_hf_folder(tmp_path / "b", model, config={"rope_scaling": yarn})
    scaling = open_checkpoint(folder).config.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.attention_factor) == ("yarn", 4.0, 1.25)


def test_a_head_that_is_stored_though_tied_is_left_out(tmp_path: Path) -> None:
    model = model_files.TinyModel(tied=False)
    folder = model_files.write_hf_folder(tmp_path / "hf", model, config={"tie_word_embeddings": True})
    assert "lm_head" not in open_checkpoint(folder).tensors


WINDOWS: dict[str, tuple[dict[str, Any], tuple[int, tuple[bool, ...]]]] = {
    "from a layer on": ({"max_window_layers": 1}, (16, (False, True))),
    "absent, it is 28": ({}, (0, ())),
    "by the layers' types": (
        {"layer_types": ["sliding_attention", "full_attention"]},
        (16, (True, False)),
    ),
    "types beat the number": (
        {"max_window_layers": 0, "layer_types": ["full_attention", "full_attention"]},
        (0, ()),
    ),
}


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_of_some_layers(tmp_path: Path, name: str, model_type: str) -> None:
    """As transformers has them."""
    changes, expected = WINDOWS[name]
    changes = {"model_type": model_type, "sliding_window": 16, "use_sliding_window": True, **changes}
    model = model_files.TinyModel(qk_norm=model_type == "qwen3")
    config = open_checkpoint(model_files.write_hf_folder(tmp_path / "hf", model, config=changes)).config
    assert (config.sliding_window, config.window_layers) == expected


LAYER_TYPES: dict[str, tuple[Any, str]] = {
    "too few": (["full_attention"], "has 1 entries for 2 layers"),
    "of another kind": (
        ["full_attention", "chunked_attention"],
        "has 'chunked_attention'; sliding_attention and",
    ),
    "no list": ("full_attention", "is no list"),
}


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_types_of_layers_that_make_no_model(tmp_path: Path, name: str) -> None:
    types, message = LAYER_TYPES[name]
    changes = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9, "layer_types": types}
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(), config=changes)
    with pytest.raises(ModelFormatError, match=f"layer_types: {message}"):
        open_checkpoint(folder)


def test_fields_that_nothing_reads_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """But not those without effect, and not those that are off."""
    changes = {"clip_qkv": 8.0, "attention_dropout": 0.1, "qk_layernorm": False, "use_bias": None}
    open_checkpoint(model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(), config=changes))
    assert "the field 'clip_qkv' is not known here" in caplog.text
    assert len(caplog.records) == 1


def test_of_several_files_the_named_one_is_opened(tmp_path: Path) -> None:
    """Else model.safetensors; others may hold the same weights under other names, as consolidated ones do."""
    ours, other = model_files.TinyModel(), model_files.TinyModel(seed=1)
    folder = model_files.write_hf_folder(tmp_path / "hf", other)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    model_files.write_hf_folder(folder, ours)
    for path, model in (
        (folder, ours),
        (folder / "config.json", ours),
        (folder / "model.safetensors", ours),
        (folder / "other.safetensors", other),
    ):
        checkpoint = open_checkpoint(path)
        assert checkpoint.path == folder
        weight = checkpoint.tensors["layers.1.o_proj"].to_float32()
        np.testing.assert_array_equal(weight, model.weights["layers.1.o_proj"])
    foreign = struct.pack("<Q", 80) + json.dumps(
        {"layers.0.wq.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode().ljust(80)
    (folder / "consolidated.safetensors").write_bytes(foreign + bytes(4))
    assert open_checkpoint(folder).config == open_checkpoint(folder / "model.safetensors").config
    with pytest.raises(ModelFormatError):
        open_checkpoint(folder / "consolidated.safetensors")


def test_a_named_part_stands_for_the_whole_index(tmp_path: Path) -> None:
    model, other = model_files.TinyModel(), model_files.TinyModel(seed=1)
    folder = model_files.write_hf_folder(tmp_path / "hf", other)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    model_files.write_hf_folder(folder, model, shards=2)
    for name in ("", "model.safetensors.index.json", "model-00002-of-00002.safetensors"):
        weight = open_checkpoint(folder / name).tensors["norm"].to_float32()
        np.testing.assert_array_equal(weight, model.weights["norm"])
    weight = open_checkpoint(folder / "other.safetensors").tensors["norm"].to_float32()
    np.testing.assert_array_equal(weight, other.weights["norm"])
