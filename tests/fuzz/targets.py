"""What is fuzzed: seed files of each format and the way each is opened."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llama_core.errors import ModelFormatError
from llama_core.loaders import open_checkpoint
from llama_core.loaders.gguf.header import read_header
from llama_core.loaders.inspect import inspect
from tests.support import model_files

# The array of an archive that is damaged.
ARRAY = "model.norm.weight.npy"


@dataclass(frozen=True)
class Seed:
    """A sound file. header: how many of its bytes are structure rather than weights. whole: the length
    at which nothing but padding is missing, where the format has padding."""

    name: str
    content: bytes
    header: int
    json_text: bool = False
    whole: int | None = None


@dataclass(frozen=True)
class Target:
    """make_seeds(folder): the seeds; place(folder): where a mutant is written; open_file: how it is read.

    Whatever else the format needs (a tokenizer beside the model) stands in the folder beforehand.
    """

    name: str
    count: int
    make_seeds: Callable[[Path], list[Seed]]
    place: str
    open_file: Callable[[Path], None]


def tiny(**changes: object) -> object:
    shape = {
        "dim": 64,
        "hidden_dim": 32,
        "n_layers": 1,
        "n_heads": 8,
        "n_kv_heads": 4,
        "head_dim": 8,
        "vocab_size": 290,
    }
    return model_files.TinyModel(**(shape | changes))


def tinier() -> object:
    """For formats without blocks of 32: small, so that every length of the file can be tried."""
    return tiny(dim=16, hidden_dim=16, n_heads=2, n_kv_heads=1, tied=False, max_seq_len=8)


def write_npz(folder: Path, *, compressed: bool = False) -> Path:
    (folder / "config.json").write_text('{"n_heads": 2}')
    return model_files.write_npz(folder / "model.npz", tinier(), compressed=compressed)


def open_model(path: Path) -> None:
    """Everything that a start does: header, config, tokenizer, all weights; and what `inspect` does."""
    checkpoint = open_checkpoint(path)
    with np.errstate(all="ignore"):
        for tensor in checkpoint.tensors.values():
            tensor.to_float32()
    tokenizer, ids = checkpoint.tokenizer, range(checkpoint.config.vocab_size)
    assert max(tokenizer.encode("Once upon a time <|end|>", special=True), default=0) in ids
    assert tokenizer.stop_ids <= set(ids)
    tokenizer.decode(ids)  # the model can give each
    inspect(path)


def open_parent(path: Path) -> None:
    open_model(path.parent)


def gguf_seeds(folder: Path) -> list[Seed]:
    seeds = []
    variants = {
        "f32": (tiny(), "F32", {}),
        "q8_0": (tiny(), "Q8_0", {"tokenizer.chat_template": "{{ messages }}"}),
        "q4_1 qwen3": (tiny(architecture="qwen3", qk_norm=True, bias=True, tied=False), "Q4_1", {}),
        "yarn": (
            tiny(),
            "BF16",
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 4.0,
                "llama.attention.sliding_window": 16,
            },
        ),
    }
    for name, (model, kind, extra) in variants.items():
        path = model_files.write_gguf(folder / "seed.gguf", model, kind, extra=extra)
        header = read_header(path)
        end = max(t.offset + t.nbytes for t in header.tensors.values())
        seeds.append(Seed(name, path.read_bytes(), header.data_start, whole=end))
    return seeds


def safetensors_seeds(folder: Path) -> list[Seed]:
    seeds = []
    for dtype in ("F32", "BF16"):
        model_files.write_hf_folder(folder, tiny(), dtype)
        content = (folder / "model.safetensors").read_bytes()
        seeds.append(Seed(dtype, content, 8 + struct.unpack("<Q", content[:8])[0], json_text=True))
    return seeds


def hf_config_seeds(folder: Path) -> list[Seed]:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    seeds = []
    for number, config in enumerate(
        ({}, {"rope_scaling": scaling, "sliding_window": 16, "model_type": "mistral"})
    ):
        model_files.write_hf_folder(folder, tiny(), config=config)
        content = (folder / "config.json").read_bytes()
        seeds.append(Seed(f"config {number}", content, len(content), json_text=True))
    return seeds


def llama2c_seeds(folder: Path) -> list[Seed]:
    seeds = []
    for version, header in ((0, 28), (1, 256), (2, 256)):
        path = model_files.write_llama2c(folder / "model.bin", tinier(), version, group=16)
        seeds.append(Seed(f"version {version}", path.read_bytes(), header))
    return seeds


def npz_seeds(folder: Path) -> list[Seed]:
    seeds = []
    for compressed in (False, True):
        path = write_npz(folder, compressed=compressed)
        content = path.read_bytes()
        seeds.append(Seed(f"compressed {compressed}", content, len(content)))
    return seeds


def npy_seeds(folder: Path) -> list[Seed]:
    """One array of the archive, so that its checksum can be put right again."""
    write_npz(folder)
    with zipfile.ZipFile(folder / "model.npz") as archive:
        (folder / "whole").mkdir(exist_ok=True)
        archive.extractall(folder / "whole")
    content = (folder / "whole" / ARRAY).read_bytes()
    return [Seed("npy", content, 128, json_text=True)]


def open_archive_with(path: Path) -> None:
    """The archive with this array in the place of its own."""
    whole = path.parent / "whole"
    with zipfile.ZipFile(path.with_name("model.npz"), "w") as archive:
        for file in whole.iterdir():
            archive.write(path if file.name == ARRAY else file, file.name)
    open_model(path.with_name("model.npz"))


def tokenizer_json_seeds(folder: Path) -> list[Seed]:
    model_files.write_hf_folder(folder, tiny())
    content = (folder / "tokenizer.json").read_bytes()
    start = content.index(b'"vocab"')
    cut = json.loads(content)
    cut["model"]["merges"] = [
        merge.split(" ") for merge in cut["model"]["merges"]
    ]  # the newer way to write them
    newer = json.dumps(cut).encode()
    return [
        Seed("merges as text", content, start, json_text=True),
        Seed("merges as pairs", newer, start, json_text=True),
    ]


def tokenizer_config_seeds(folder: Path) -> list[Seed]:
    model_files.write_hf_folder(folder, tiny())
    flags = {"lstrip": True, "rstrip": False, "single_word": True, "normalized": False, "special": True}
    newer = {
        "bos_token": "<|start|>",
        "eos_token": {"content": "<|end|>"} | flags,
        "additional_special_tokens": ["<|extra|>"],
        "added_tokens_decoder": {"0": {"content": "<|end|>"} | flags, "288": {"content": "<|new|>"}},
        "eos_token_ids": [0, 288],
        "chat_template": "{{ messages }}<|end|>",
    }
    older = {"bos_token": "<|start|>", "eos_token": "e", "extra_special_tokens": {"x": "<|x|>"}}
    found = []
    for name, config in (("newer", newer), ("older", older)):
        content = json.dumps(config).encode()
        found.append(Seed(name, content, len(content), json_text=True))
    return found


def tokenizer_bin_seeds(folder: Path) -> list[Seed]:
    model_files.write_llama2c(folder / "model.bin", tiny())
    content = (folder / "tokenizer.bin").read_bytes()
    return [Seed("tokenizer.bin", content, len(content))]


def tokenizer_np_seeds(folder: Path) -> list[Seed]:
    write_npz(folder)
    content = (folder / "tokenizer.model.np").read_bytes()
    return [Seed("tokenizer.model.np", content, len(content), json_text=True)]


TARGETS = [
    Target("gguf", 100_000, gguf_seeds, "model.gguf", open_model),
    Target("safetensors", 25_000, safetensors_seeds, "model.safetensors", open_parent),
    Target("config.json", 25_000, hf_config_seeds, "config.json", open_parent),
    Target("llama2c", 25_000, llama2c_seeds, "model.bin", open_model),
    Target("npz", 25_000, npz_seeds, "model.npz", open_model),
    Target("npy", 25_000, npy_seeds, "array.npy", open_archive_with),
    Target("tokenizer.json", 25_000, tokenizer_json_seeds, "tokenizer.json", open_parent),
    Target("tokenizer_config.json", 25_000, tokenizer_config_seeds, "tokenizer_config.json", open_parent),
    Target(
        "tokenizer.bin",
        25_000,
        tokenizer_bin_seeds,
        "tokenizer.bin",
        lambda p: open_model(p.with_name("model.bin")),
    ),
    Target(
        "tokenizer.np",
        25_000,
        tokenizer_np_seeds,
        "tokenizer.model.np",
        lambda p: open_model(p.with_name("model.npz")),
    ),
]


def refuses(open_file: Callable[[Path], object], path: Path) -> bool:
    """Whether the file is refused as it should be; any other exception passes through."""
    try:
        open_file(path)
    except ModelFormatError:
        return True
    return False
