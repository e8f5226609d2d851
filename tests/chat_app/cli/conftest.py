"""A model small enough to answer in milliseconds, and ways to run the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.profiling.lab.experiment import LabContext

REPOSITORY = Path(__file__).resolve().parents[3]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_characters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown}
    table |= {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [table[byte] for byte in range(256)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with byte-level tokens and a ChatML template, as GGUF: 2 layers of width 64."""
    import gguf

    dim, hidden, n_layers, n_heads, n_kv_heads = 64, 96, 2, 4, 2
    random = np.random.default_rng(11)
    path = tmp_path_factory.mktemp("tiny") / "tiny-chat.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny chat")
    writer.add_block_count(n_layers)
    writer.add_context_length(512)
    writer.add_embedding_length(dim)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(dim // n_heads)
    tokens = SPECIAL + byte_characters() + ["th", "the", "Ġthe"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["t h", "th e", "Ġ the"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), dim)
    writer.add_tensor("output_norm.weight", np.ones(dim, np.float32))
    for layer in range(n_layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(dim, np.float32))
        kv_dim = dim // n_heads * n_kv_heads
        for name, rows, columns in (
            ("attn_q", dim, dim),
            ("attn_k", kv_dim, dim),
            ("attn_v", kv_dim, dim),
            ("attn_output", dim, dim),
            ("ffn_gate", hidden, dim),
            ("ffn_up", hidden, dim),
            ("ffn_down", dim, hidden),
        ):
            add(f"blk.{layer}.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def context(tiny_model: Path, kernel_cache: Path) -> Iterator[LabContext]:
    """What the laboratory's experiments may use; models that they made are closed at the end."""
    made = LabContext(model_path=tiny_model, kernel_cache=kernel_cache, budget_s=0.01)
    yield made
    for value in made.cache.values():
        if hasattr(value, "close"):
            value.close()


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a run of the program left behind."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Ran]


@pytest.fixture
def run_cli(llama_chat_home: Path) -> RunCli:
    """Run `llama-chat` as a child process: run_cli("-p", "hi", stdin="...")."""

    def run(*arguments: str, stdin: str | bytes | None = "", timeout: float = 300, **environment: str) -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            command(arguments),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **environment},
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "chat_app", *arguments]


@pytest.fixture
def main(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Run `llama-chat` inside this process, which is quicker: no terminal, and stdin as given."""
    import io

    from chat_app import cli

    def run(*arguments: str, stdin: str | bytes = "") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capfd.readouterr()
        try:
            code = cli.main(list(arguments))
        except SystemExit as error:  # argparse ends the program so
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def quick(tiny_model: Path) -> list[str]:
    """Options for a short greedy reply of the tiny model."""
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1"]
    return [*options, "-o", "temperature", "0", "-o", "num_predict", "12", "-o", "ignore_eos", "true"]


@pytest.fixture
def transcript(llama_chat_home: Path) -> Callable[[], list[dict[str, Any]]]:
    """Every line of every chat on disk, by the time of its message."""

    def lines() -> list[dict[str, Any]]:
        paths = llama_chat_home.glob("data/chats/*/messages.jsonl")
        found = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return sorted(found, key=lambda line: line["x"]["time"])  # stable: states of one keep their order

    return lines
