"""Models whose every answer a test decides, and a tokenizer of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from llama_core.config import ModelConfig
from llama_core.errors import Cancelled, ContextFullError
from llama_core.tokenizers.added_tokens import TokenMatcher

BOS, EOS, END = 256, 257, 258
VOCAB = 260


class ScriptedCache:
    """Remembers the ids themselves, so that a test can see what the model was shown. snapshot_bytes: not 0
    for one that goes back to its snapshots alone."""

    def __init__(self, capacity: int, snapshot_bytes: int = 0) -> None:
        self.ids: list[int] = []
        self.capacity = capacity
        self.snapshot_bytes = snapshot_bytes
        self.snapshots = {0}

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return self.capacity * 8

    def snapshot(self) -> None:
        self.snapshots.add(self.length)

    def reachable(self, length: int) -> int:
        if not self.snapshot_bytes or length == self.length:
            return length
        return max(at for at in self.snapshots if at <= length)

    def truncate(self, length: int) -> None:
        if not 0 <= length <= len(self.ids):
            raise ValueError(f"cannot truncate {len(self.ids)} positions to {length}")
        del self.ids[self.reachable(length) :]
        self.snapshots = {at for at in self.snapshots if at <= self.length}

    def copy_prefix(self, source: ScriptedCache, length: int) -> None:
        self.ids = source.ids[:length]


class ScriptedModel:
    """Answers with the logits that `script(ids so far)` gives; `before` runs at each pass and may raise."""

    backend = "scripted"
    threads = 1
    weights_bytes = 1000
    scratch_bytes = 10
    mapped_bytes = 0

    def __init__(
        self,
        script: Callable[[Sequence[int]], np.ndarray | int],
        *,
        max_seq_len: int = 512,
        prefill_chunk: int = 8,
        layers: int = 3,
        before: Callable[[int], None] | None = None,
    ) -> None:
        self.script = script
        self.prefill_chunk = prefill_chunk
        self.before = before
        self.passes: list[list[int]] = []
        self.closed = 0
        self.config = ModelConfig(
            dim=8,
            hidden_dim=8,
            n_layers=layers,
            n_heads=1,
            n_kv_heads=1,
            head_dim=8,
            vocab_size=VOCAB,
            max_seq_len=max_seq_len,
        )

    def new_cache(self, capacity: int) -> ScriptedCache:
        return ScriptedCache(capacity)

    def forward(
        self, token_ids: np.ndarray, cache: ScriptedCache, *, logits: str = "last", cancelled: Any = None
    ) -> np.ndarray:
        assert token_ids.dtype == np.int32
        assert 0 < len(token_ids) <= self.prefill_chunk
        if cache.length + len(token_ids) > cache.capacity:
            raise ContextFullError(cache.length + len(token_ids), cache.capacity)
        self.passes.append(token_ids.tolist())
        if self.before is not None:
            self.before(len(self.passes) - 1)
        for _ in range(self.config.n_layers):
            if cancelled is not None and cancelled():
                raise Cancelled
        rows = []
        for token in token_ids.tolist():
            cache.ids.append(token)
            answer = self.script(cache.ids)
            if isinstance(answer, int):
                row = np.zeros(VOCAB, np.float32)
                row[answer] = 20.0
                answer = row
            rows.append(answer)
        if logits == "none":
            return np.empty(0, np.float32)
        return rows[-1] if logits == "last" else np.array(rows)

    def close(self) -> None:
        self.closed += 1


class ByteTokenizer:
    """A token a byte; control tokens <s>, </s> and <end>."""

    kind = "bytes"
    vocab_size = VOCAB
    bos_id = BOS
    eos_id = EOS
    stop_ids = frozenset({EOS, END})
    add_bos = True
    special_tokens = {"<s>": BOS, "</s>": EOS, "<end>": END}  # noqa: RUF012 - a constant

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        if special:
            for name, token in self.special_tokens.items():
                if name in text:
                    before, after = text.split(name, 1)
                    return [*self.encode(before, special=True), token, *self.encode(after, special=True)]
        return list(text.encode())

    def split_special(self, text: str) -> list[str | int]:
        return TokenMatcher(self.special_tokens).split(text)

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        return [i for part in parts for i in ([part] if isinstance(part, int) else self.encode(part))]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def token_text(self, token_id: int) -> str:
        names = {token: name for name, token in self.special_tokens.items()}
        return names.get(token_id) or chr(token_id)

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.token_bytes(i) for i in ids).decode(errors="replace")

    def stream(self) -> Any:
        from llama_core.tokenizers.detokenizer import Utf8Stream

        return Utf8Stream(self.token_bytes)


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedModel]:
    return ScriptedModel


@pytest.fixture(scope="session")
def byte_tokenizer_class() -> type[ByteTokenizer]:
    return ByteTokenizer


@pytest.fixture
def byte_tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture(scope="session")
def saying(scripted: type[ScriptedModel]) -> Callable[..., ScriptedModel]:
    """saying(text): a model that, after a prompt that ends in a zero byte, says the text and then EOS."""

    def make(text: str | bytes, **settings: Any) -> ScriptedModel:
        said = text.encode() if isinstance(text, str) else text

        def script(ids: Sequence[int]) -> int:
            place = len(ids) - 1 - max((i for i, token in enumerate(ids) if token == 0), default=0)
            return said[place] if place < len(said) else EOS

        return scripted(script, **settings)

    return make
