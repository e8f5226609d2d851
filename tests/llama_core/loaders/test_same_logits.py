"""One random model in every format: the same logits, those of the slow float64 oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.loaders import open_checkpoint
from tests.support import model_files, reference

IDS = [5, 17, 100, 42, 250, 33, 77, 8]


def logits_of(checkpoint: Checkpoint, ids: list[int] = IDS) -> NDArray[np.float32]:
    model = Llama(checkpoint.config, load_weights(checkpoint), threads=1)
    return model.forward(np.array(ids, dtype=np.int32), model.new_cache(64), logits="all").copy()


def greedy(checkpoint: Checkpoint, n: int) -> list[int]:
    """The next n ids."""
    model = Llama(checkpoint.config, load_weights(checkpoint), threads=1)
    cache, ids, step = model.new_cache(64), list[int](), IDS
    for _ in range(n):
        step = [int(np.argmax(model.forward(np.array(step, dtype=np.int32), cache)))]
        ids += step
    return ids


def oracles_greedy(config: Any, weights: dict[str, NDArray[np.float32]], n: int) -> list[int]:
    """The oracle's next n ids, of which each must be so clear that rounding cannot change it."""
    ids = list(IDS)
    for _ in range(n):
        last = reference.forward(config, weights, ids)[-1]
        second, best = np.argsort(last)[-2:]
        assert last[best] - last[second] > 1e-3, "choose another seed"
        ids.append(int(best))
    return ids[len(IDS) :]


def oracles_text(tokens: str, ids: list[int]) -> str:
    """What ids say, by the vocabularies that the writers wrote; llama3.np knows no tokens for bytes."""
    if tokens == "byte-level":
        characters = {c: byte for byte, c in enumerate(model_files.byte_characters())}
        texts, _ = model_files.byte_level_vocabulary(300)
        pieces = [b"" if i < 2 else bytes(characters[c] for c in texts[i]) for i in ids]
    else:
        vocabulary = model_files.sentencepiece_vocabulary(300)
        is_byte = [tokens == "scores and bytes" and 3 <= i < 259 for i in ids]
        pieces = [bytes([i - 3]) if byte else vocabulary[i][0] for i, byte in zip(ids, is_byte, strict=True)]
    return b"".join(pieces).decode("utf-8", "replace")


# How each format is written, and the kind of vocabulary that comes with it.
WRITERS: dict[str, tuple[Callable[[Path, Any], Path], str]] = {
    "gguf": (lambda folder, model: model_files.write_gguf(folder / "m.gguf", model), "byte-level"),
    "safetensors": (lambda folder, m: model_files.write_hf_folder(folder / "hf", m, shards=2), "byte-level"),
    "llama2c legacy": (lambda folder, m: model_files.write_llama2c(folder / "m.bin", m), "scores and bytes"),
    "llama2c version 1": (
        lambda folder, m: model_files.write_llama2c(folder / "m.bin", m, 1),
        "scores and bytes",
    ),
    "npz": (lambda folder, model: model_files.write_npz(folder / "m.npz", model), "scores"),
}


def test_every_format_gives_the_oracles_logits_ids_and_text(tmp_path: Path) -> None:
    # llama3.np's epsilon is 1e-6, llama2.c's 1e-5; numbers this large hide the difference.
    model = model_files.TinyModel(tied=False)
    model.weights["embed_tokens"] *= 50
    ids: list[int] = []
    for kind, (write, tokens) in WRITERS.items():
        checkpoint = open_checkpoint(write(tmp_path, model))
        wanted = reference.forward(checkpoint.config, model.weights, IDS)
        np.testing.assert_allclose(logits_of(checkpoint), wanted, rtol=0, atol=2e-4, err_msg=kind)
        ids = ids or oracles_greedy(checkpoint.config, model.weights, 24)
        assert greedy(checkpoint, 24) == ids, kind
        assert checkpoint.tokenizer.decode(ids) == oracles_text(tokens, ids), kind
    assert len(set(ids)) > 12
    assert min(ids) > 2, "special tokens say nothing"


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_neighbours_give_the_oracles_logits(tmp_path: Path, architecture: str) -> None:
    model = model_files.TinyModel(
        architecture=architecture,
        bias=True,
        more_biases=architecture == "llama",
        qk_norm=architecture == "qwen3",
    )
    for path in (
        model_files.write_gguf(tmp_path / "m.gguf", model),
        model_files.write_hf_folder(tmp_path / "hf", model),
    ):
        checkpoint = open_checkpoint(path)
        wanted = reference.forward(checkpoint.config, model.weights, IDS)
        np.testing.assert_allclose(logits_of(checkpoint), wanted, rtol=0, atol=1e-4)


def test_int8_groups_give_the_logits_of_their_own_numbers(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    checkpoint = open_checkpoint(model_files.write_llama2c(tmp_path / "m.bin", model, 2))
    for weight in model.weights.values():
        if weight.ndim == 2:
            numbers, scales = model_files.int8_groups(weight, 32)
            weight[:] = (numbers.astype(np.float32) * scales[:, None]).reshape(weight.shape)
    wanted = reference.forward(checkpoint.config, model.weights, IDS)
    np.testing.assert_allclose(logits_of(checkpoint), wanted, rtol=0, atol=1e-4)


def test_a_mixed_file_as_q4_k_m_is(tmp_path: Path) -> None:
    """Q4_K with Q6_K for some tensors, 5-bit types between: random blocks, read by the oracle."""
    model = model_files.TinyModel(dim=256, hidden_dim=256, n_layers=2, head_dim=32, tied=False)
    types = {
        "v_proj": "Q6_K",
        "down_proj": "Q6_K",
        "lm_head": "Q6_K",
        "embed_tokens": "Q5_0",
        "o_proj": "Q5_K",
    }
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    model_files.add_metadata(writer, model_files.gguf_metadata(model))
    ours = {theirs: name for name, theirs in model_files.gguf_tensor_names(model).items()}
    for theirs, value, type_name in model_files.gguf_tensors(model, types, "Q4_K"):
        kind = gguf.GGMLQuantizationType[type_name]
        if type_name == "F32":
            writer.add_tensor(theirs, value)
            continue
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, (len(value), value.shape[1] // block * size), dtype=np.uint8)
        scale = np.array([0.0008], dtype=np.float16).view(
            np.uint8
        )  # the float16 scales, so that all stays finite
        for at in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q5_0": (0,)}[type_name]:
            for column in (at, at + 1):
                raw[:, column::size] = scale[column - at]
        writer.add_tensor(theirs, raw, raw_dtype=kind)
        model.weights[ours[theirs]] = model_files.halves(
            gguf.dequantize(raw, kind), ours[theirs], model.head_dim
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert {t.fmt.name for t in checkpoint.tensors.values()} == {"F32", "Q4_K", "Q5_K", "Q6_K", "Q5_0"}
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(checkpoint.tensors[name].to_float32(), weight)
    wanted = reference.forward(checkpoint.config, model.weights, IDS)
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(logits_of(checkpoint), wanted, rtol=1e-4, atol=1e-4)
