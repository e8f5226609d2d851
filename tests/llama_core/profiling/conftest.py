"""A toy checkpoint in memory, with a tokenizer whose ids are bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.config import ModelConfig
from llama_core.engine.text import TextEngine
from llama_core.profiling.synthetic import random_checkpoint
from llama_core.tokenizers.added_tokens import TokenMatcher

TOY = ModelConfig(
    dim=64,
    hidden_dim=128,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    vocab_size=320,
    max_seq_len=256,
    name="toy",
)


class ByteTokenizer:
    """ids 0 to 255 are bytes, 256 ends a text; good enough for a model that knows nothing."""

    kind = "bytes"
    vocab_size = 320
    bos_id = None
    eos_id = 256
    stop_ids = frozenset({256})
    add_bos = False
    special_tokens: Mapping[str, int] = {"<end>": 256}

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def split_special(self, text: str) -> list[str | int]:
        return TokenMatcher(self.special_tokens).split(text)

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        return [i for part in parts for i in ([part] if isinstance(part, int) else self.encode(part))]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("latin-1") or f"<{token_id}>"

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.token_bytes(token_id) for token_id in ids).decode(errors="replace")

    def stream(self) -> ByteStream:
        return ByteStream()


class ByteStream:
    def push(self, token_id: int) -> str:
        return chr(token_id) if token_id < 256 else ""

    def flush(self) -> str:
        return ""


@pytest.fixture(scope="session")
def toy_checkpoint() -> Checkpoint:
    return random_checkpoint(TOY, ByteTokenizer())


@pytest.fixture
def engine(toy_checkpoint: Checkpoint) -> Iterator[TextEngine]:
    """The toy with the NumPy model."""
    made = TextEngine(toy_checkpoint, Llama(toy_checkpoint.config, load_weights(toy_checkpoint)))
    yield made
    made.close()


@pytest.fixture
def compiled(toy_checkpoint: Checkpoint, kernel_cache: Path) -> Iterator[TextEngine]:
    """The toy with the compiled model, where it can run."""
    pytest.importorskip("numba")
    from llama_core.backends.jit import load_jit_model

    model = load_jit_model(toy_checkpoint, threads=1, kernel_cache=kernel_cache)
    made = TextEngine(toy_checkpoint, model)
    yield made
    made.close()
