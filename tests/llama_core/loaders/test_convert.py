"""What `models convert` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llama_core.architectures import describe
from llama_core.architectures.rope import rope_frequencies
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.convert import FILE_TYPES, convert
from llama_core.loaders.gguf.header import read_header
from llama_core.loaders.gguf.writer import OutTensor, write_gguf
from llama_core.quant.table import F32
from tests.support import model_files


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("type_name", FILE_TYPES)
def test_converted_tensors_are_the_oracles(tmp_path: Path, type_name: str, tied: bool) -> None:
    """The oracle's own reader opens the file, and each tensor is what the oracle's quantiser makes of it."""
    model = model_files.TinyModel(tied=tied)
    source = model_files.write_gguf(tmp_path / "source.gguf", model)
    target = tmp_path / "target.gguf"
    seen: list[tuple[int, int]] = []
    assert convert(source, target, type_name, on_progress=lambda *p: seen.append(p)) == target
    stored = {name: value for name, value, _ in model_files.gguf_tensors(model, {}, "F32")}
    reader = gguf.GGUFReader(target)
    assert {t.name for t in reader.tensors} == set(stored)
    head = "token_embd.weight" if tied else "output.weight"
    for tensor in reader.tensors:
        kind = type_name.upper() if stored[tensor.name].ndim == 2 else "F32"
        kind = "Q8_0" if kind.startswith("Q4") and tensor.name == head else kind
        assert tensor.tensor_type.name == kind
        wanted = gguf.quantize(stored[tensor.name], tensor.tensor_type)
        np.testing.assert_array_equal(
            np.asarray(tensor.data).view(np.uint8).ravel(), wanted.view(np.uint8).ravel()
        )
    assert seen[0] == (0, len(stored))
    assert seen[-1] == (len(stored), len(stored))
    ours, before = open_checkpoint(target), open_checkpoint(source)
    assert ours.config == before.config
    assert ours.metadata["general.file_type"] == FILE_TYPES[type_name]
    same = {k: v for k, v in before.metadata.items() if not isinstance(v, np.ndarray)}
    assert {k: ours.metadata[k] for k in same} == same
    assert ours.tokenizer.encode("the end") == before.tokenizer.encode("the end")


def test_a_tensor_that_has_its_type_is_copied(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    source = model_files.write_gguf(tmp_path / "source.gguf", model, "Q4_1")
    convert(source, tmp_path / "target.gguf", "q4_1")
    before, after = read_header(source), read_header(tmp_path / "target.gguf")
    for name, info in after.tensors.items():
        if name != "token_embd.weight":  # which becomes Q8_0
            np.testing.assert_array_equal(after.raw(info).read(), before.raw(before.tensors[name]).read())


def test_rows_that_are_no_whole_blocks_become_f16(tmp_path: Path) -> None:
    model = model_files.TinyModel(hidden_dim=100)
    source = model_files.write_gguf(tmp_path / "source.gguf", model)
    convert(source, tmp_path / "target.gguf", "q8_0")
    types = {name: info.fmt.name for name, info in read_header(tmp_path / "target.gguf").tensors.items()}
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"


@pytest.mark.parametrize("kind", ["safetensors", "llama2c"])
def test_other_formats_become_gguf(tmp_path: Path, kind: str) -> None:
    """Weights, config, tokenizer and template go along; spare rows of the embedding get unused tokens."""
    model = model_files.TinyModel(vocab_size=470, tied=False)
    if kind == "llama2c":
        source = model_files.write_llama2c(tmp_path / "m.bin", model)
    else:
        scaling = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}
        source = model_files.write_hf_folder(tmp_path / "hf", model, config={"rope_scaling": scaling})
        (source / "chat_template.jinja").write_text("{{ messages }}")
    target = convert(source, tmp_path / "target.gguf", "f32")
    before, after = open_checkpoint(source), open_checkpoint(target)
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(after.tensors[name].to_float32(), weight)
    assert after.chat_template == before.chat_template
    assert (after.tokenizer.bos_id, after.tokenizer.eos_id) == (
        before.tokenizer.bos_id,
        before.tokenizer.eos_id,
    )
    assert after.tokenizer.vocab_size == 470
    for text in ("the end of the line", " two  spaces", "123 caf\u00e9 \u4f60", "a\nb"):
        assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
        ids = before.tokenizer.encode(text)
        assert after.tokenizer.decode(ids) == before.tokenizer.decode(ids)
    if kind == "safetensors":
        ropes = [describe(found.config).layers[0].attention.rope for found in (before, after)]
        wanted, _ = rope_frequencies(ropes[0])
        got, _ = rope_frequencies(ropes[1], after.tensors["rope_freqs"].to_float32())
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_window_is_written_or_refused(tmp_path: Path) -> None:
    """llama.cpp gives llama's and qwen2's files no window: a file that computes something else is none."""
    for model_type, window, written in (("mistral", 16, "mistral"), ("mistral", None, "llama")):
        changes = {"model_type": model_type, "sliding_window": window}
        folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(), config=changes)
        after = open_checkpoint(convert(folder, tmp_path / "m.gguf", "f32"))
        assert after.metadata["general.architecture"] == written
        assert after.config.sliding_window == (window or 0)
    changes = {
        "model_type": "qwen2",
        "sliding_window": 16,
        "use_sliding_window": True,
        "max_window_layers": 0,
    }
    folder = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(), config=changes)
    with pytest.raises(
        UnsupportedModelError, match="config sliding_window: is 16; files of this architecture"
    ):
        convert(folder, tmp_path / "n.gguf", "f32")
    assert not (tmp_path / "n.gguf").exists()


def test_a_tokenizer_that_gguf_cannot_express(tmp_path: Path) -> None:
    """llama3.np drops characters that it does not know; another file of the vocabulary may be given."""
    path = model_files.write_npz(tmp_path / "m.npz", model_files.TinyModel())
    with pytest.raises(UnsupportedModelError, match=r"m\.npz: tokenizer: .*--tokenizer tokenizer\.bin"):
        convert(path, tmp_path / "target.gguf", "f32")
    given = model_files.write_tokenizer_bin(tmp_path / "tokenizer.bin", 300)
    convert(path, tmp_path / "target.gguf", "f32", tokenizer_path=given)
    assert open_checkpoint(tmp_path / "target.gguf").tokenizer.vocab_size == 300


def test_notes_about_the_tokenizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the file cannot say is said to the caller, or in the log where there is none to hear it."""
    source = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(vocab_size=470))
    content = json.loads((source / "tokenizer.json").read_text()) | {"normalizer": {"type": "NFC"}}
    (source / "tokenizer.json").write_text(json.dumps(content))
    notes: list[str] = []
    convert(source, tmp_path / "target.gguf", "f32", on_note=notes.append)
    assert ["NFC" in note for note in notes] == [True]
    assert caplog.messages == []
    convert(source, tmp_path / "target.gguf", "f32")
    assert caplog.messages == notes


def test_all_end_tokens_go_along(tmp_path: Path) -> None:
    """Also one that only config.json names; ids without a token are no obstacle."""
    source = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(vocab_size=470))
    content = json.loads((source / "tokenizer.json").read_text())
    end = max(content["model"]["vocab"].values()) + 4
    content["added_tokens"].append({"id": end, "content": "<turn_end>", "special": True})
    (source / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((source / "config.json").read_text()) | {"eos_token_id": [0, end]}
    (source / "config.json").write_text(json.dumps(config))
    target = convert(source, tmp_path / "target.gguf", "f32")
    assert (
        open_checkpoint(source).tokenizer.stop_ids == open_checkpoint(target).tokenizer.stop_ids == {0, end}
    )
    assert read_header(target).metadata["tokenizer.ggml.eot_token_id"] == end
    contents = gguf.GGUFReader(target).fields["tokenizer.ggml.tokens"].contents()
    assert len(set(contents)) == len(contents) == 470


def test_a_rule_that_gguf_has_no_name_for(tmp_path: Path) -> None:
    """Byte-level BPE that does not cut at spaces at all."""
    source = model_files.write_hf_folder(tmp_path / "hf", model_files.TinyModel(vocab_size=470))
    content = (source / "tokenizer.json").read_text().replace('"use_regex": true', '"use_regex": false')
    (source / "tokenizer.json").write_text(content)
    with pytest.raises(UnsupportedModelError, match="no rule that GGUF knows cuts texts"):
        convert(source, tmp_path / "target.gguf", "f32")


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    model = model_files.TinyModel()
    model.weights["layers.0.v_proj"][3, 3] = np.nan
    source = model_files.write_gguf(tmp_path / "source.gguf", model)
    target = tmp_path / "target.gguf"
    target.write_bytes(b"what was here before")
    with pytest.raises(ModelFormatError, match=r"blk\.0\.attn_v.*NaN or infinity"):
        convert(source, target, "q8_0")
    with pytest.raises(ValueError, match="unknown type 'q3_k'; f16, f32, q4_0, q4_1, q8_0"):
        convert(source, target, "q3_k")
    with pytest.raises(ValueError, match="is the model itself"):
        convert(source, source, "q8_0")
    assert target.read_bytes() == b"what was here before"
    with pytest.raises(FileNotFoundError) as missing:
        convert(source, tmp_path / "none" / "q.gguf", "f16")
    assert missing.value.filename == str(tmp_path / "none")
    with pytest.raises(NotADirectoryError) as no_folder:
        convert(source, target / "q.gguf", "f16")
    assert no_folder.value.filename == str(target)
    with pytest.raises(OSError, match="too long") as long_name:
        convert(source, tmp_path / f"{'x' * 240}.gguf", "f16")
    assert long_name.value.filename == str(tmp_path / f"{'x' * 240}.gguf")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["source.gguf", "target.gguf"]


def test_the_writer_against_the_oracles_reader(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "general.architecture": "llama", "text": "caf\u00e9", "yes": True, "small": 7, "negative": -7,
        "large": 1 << 40, "least": -(1 << 40), "real": 0.25, "texts": ["a", "", "\u00e9"],
        "flags": np.array([True, False]),
        "bytes": np.arange(3, dtype=np.uint8), "halves": np.array([0.5, -0.5], dtype=np.float64),
        "numbers": np.array([1, -2], dtype=np.int32),
    }  # fmt: skip
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "w.gguf"
    write_gguf(path, values, [OutTensor("a", (3, 4), F32, lambda: (r.view(np.uint8)[None] for r in rows))])
    reader = gguf.GGUFReader(path)
    kinds = {key: [t.name for t in reader.fields[key].types] for key in values}
    assert kinds["small"] == ["UINT32"]
    assert (kinds["negative"], kinds["large"], kinds["least"]) == (["INT32"], ["UINT64"], ["INT64"])
    assert kinds["flags"] == ["ARRAY", "BOOL"]
    assert kinds["halves"] == ["ARRAY", "FLOAT64"]
    for key, value in values.items():
        wanted = value.tolist() if isinstance(value, np.ndarray) else value
        assert reader.fields[key].contents() == wanted
    np.testing.assert_array_equal(reader.tensors[0].data, rows)
    ours = read_header(path).metadata
    assert [ours[key] for key in ("text", "yes", "small", "negative", "real")] == [
        "caf\u00e9",
        True,
        7,
        -7,
        0.25,
    ]
    with pytest.raises(ValueError, match="48 bytes were given, expected 64"):
        write_gguf(path, {}, [OutTensor("a", (4, 4), F32, lambda: [rows.view(np.uint8)])])
    for bad in (1 << 70, object(), np.array(["x"])):
        with pytest.raises(ValueError, match=r"64 bits|cannot be written"):
            write_gguf(path, {"bad": bad}, [])
    assert gguf.GGUFReader(path).tensors[0].name == "a"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["w.gguf"]


# --- llama.cpp ---


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["q8_0", "q4_0", "q4_1", "f16"])
def test_converted_files_open_in_llama_cpp(default_model: Path, tmp_path: Path, type_name: str) -> None:
    """And it computes what we compute, but for its 8-bit activations and 16-bit cache."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python (group peers) is not installed")
    target = convert(default_model, tmp_path / "m.gguf", type_name)
    theirs = llama_cpp.Llama(str(target), n_ctx=256, n_threads=2, verbose=False, logits_all=True)
    checkpoint = open_checkpoint(target)
    ids = theirs.tokenize(b"The capital of France is", add_bos=False)
    assert ids == checkpoint.tokenizer.encode("The capital of France is")
    theirs.eval(ids)
    model = Llama(checkpoint.config, load_weights(checkpoint))
    ours = model.forward(np.array(ids, dtype=np.int32), model.new_cache(64))
    assert np.corrcoef(ours, theirs.scores[len(ids) - 1])[0, 1] > 0.995
