"""GGUF files of families with states: layers that guess further tokens, kinds of layers by their heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.config import ModelConfig
from llama_core.errors import LlamaCoreError
from llama_core.loaders import read_model
from llama_core.loaders.convert import convert
from llama_core.loaders.gguf.header import GGUFHeader, read_header
from llama_core.loaders.gguf.writer import OutTensor, write_gguf
from llama_core.profiling.random_gguf import random_gguf
from llama_core.quant.table import F32

CONFIG = ModelConfig(
    dim=64, hidden_dim=96, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=16, vocab_size=520, max_seq_len=64,
    qk_norm=True, recurrent_layers=(True, True, True, False), conv_kernel=4, state_heads=4, state_head_dim=16,
    state_dim=16, state_groups=2, architecture="qwen35",
)  # fmt: skip


def tensor(header: GGUFHeader, name: str) -> OutTensor:
    info = header.tensors[name]
    return OutTensor(name, info.shape, info.fmt, lambda: [header.raw(info).read()])


def rewritten(path: Path, keys: dict[str, Any], more: tuple[str, ...] = ()) -> Path:
    """The random model with other keys and further tensors, of 64 numbers each."""
    header = read_header(random_gguf(path.with_suffix(".plain"), CONFIG, "F32"))
    tensors = [tensor(header, name) for name in header.tensors]
    zeros = np.zeros((1, 256), np.uint8)
    tensors += [OutTensor(name, (64,), F32, lambda: [zeros]) for name in more]
    write_gguf(path, {**header.metadata, **keys}, tensors)
    return path


def test_layers_that_guess_further_tokens_are_left_out(tmp_path: Path) -> None:
    keys = {"qwen35.block_count": 5, "qwen35.nextn_predict_layers": 1}
    more = ("blk.4.attn_norm.weight", "blk.4.nextn.enorm.weight")
    path = rewritten(tmp_path / "m.gguf", keys, more)
    model = read_model(path)
    assert (model.config.n_layers, model.config.recurrent_layers) == (4, CONFIG.recurrent_layers)
    after = read_header(convert(path, tmp_path / "f16.gguf", "f16"))
    assert after.metadata["qwen35.block_count"] == 4
    assert "qwen35.nextn_predict_layers" not in after.metadata
    assert not any(name.startswith("blk.4.") for name in after.tensors)


def test_the_kind_of_a_layer_may_stand_in_its_number_of_key_heads(tmp_path: Path) -> None:
    keys = {"qwen35.attention.head_count_kv": np.array([0, 0, 0, 2], np.int32)}
    assert read_model(rewritten(tmp_path / "m.gguf", keys)).config.recurrent_layers == CONFIG.recurrent_layers


BAD = {
    "head_count_kv': has 3 entries for 4": {"qwen35.attention.head_count_kv": np.array([0, 0, 2], np.int32)},
    "n_kv_heads is 0": {"qwen35.attention.head_count_kv": np.zeros(4, np.int32)},
    "differs from layer to layer": {"qwen35.attention.head_count_kv": np.array([1, 0, 0, 2], np.int32)},
    "expected all or none": {"qwen35.ssm.state_size": 0},
    "no multiple of state_groups": {"qwen35.ssm.group_count": 3},
    "conv_kernel is 100": {"qwen35.ssm.conv_kernel": 100},
    "block_count.: is 4,294,967,295": {"qwen35.block_count": (1 << 32) - 1},
    "n_layers is -1": {"qwen35.nextn_predict_layers": 5},
    r"blk\.0.*has shape": {"qwen35.ssm.state_size": 32},
}


@pytest.mark.parametrize("said", BAD)
def test_numbers_that_belong_to_no_model(tmp_path: Path, said: str) -> None:
    with pytest.raises(LlamaCoreError, match=said):
        read_model(rewritten(tmp_path / "m.gguf", BAD[said]))
