"""Small models on both backends, a folder that is trusted, and what keeps their chats in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_app.kv_files.keeper import KvKeeper
from llama_core.backends.jit import jit_available
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.events import Finished
from llama_core.sampling.params import SamplingParams

BACKENDS = ("numpy", "jit")
LIMIT = 64 << 20


class Chatting:
    """A loaded model and its keeper; another one on the same file is another start of the program."""

    def __init__(self, text: TextEngine, path: Path, folder: Path, limit: int = LIMIT) -> None:
        self.text = text
        self.engine = text.engine
        self.exact = text.backend.startswith("jit")
        self.keeper = KvKeeper(text, path, folder, limit, exact=self.exact)
        self.folder = folder

    def reply(self, ids: Sequence[int], n: int = 12, chat: str = "chat", *, keep: bool = True) -> list[int]:
        """A reply, kept; returns all ids of the chat."""
        params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
        *_, last = self.engine.generate(ids, params)
        assert isinstance(last, Finished)
        if keep:
            self.keeper.save(chat, last.timings)
        return [*ids, *last.ids]

    def logits(self, ids: Sequence[int]) -> list[int]:
        """The bits of the next logits."""
        bits: list[int] = self.engine.prompt_logits(ids).view(np.uint32).tolist()
        return bits

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.kv"))

    def close(self) -> None:
        self.keeper.close()
        self.text.close()


Start = Callable[..., Chatting]


def words(seed: int, n: int) -> list[int]:
    """n ids of plain bytes."""
    ids: list[int] = np.random.default_rng(seed).integers(10, 200, n).tolist()
    return ids


@pytest.fixture
def start(
    tiny_model: Path, trusted_folder: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """start(backend, limit=...): the program begins, with the same model and folder each time."""
    monkeypatch.setattr("chat_app.kv_files.folder.FREE_BYTES", 0)
    begun: list[Chatting] = []

    def make(backend: str = "numpy", **more: Any) -> Chatting:
        reason = jit_available()
        if backend == "jit" and reason:
            pytest.skip(reason)
        engine = load_engine(tiny_model, backend=backend, threads=1, kernel_cache=kernel_cache)  # type: ignore[arg-type]
        begun.append(Chatting(engine, tiny_model, trusted_folder / "kv", **more))
        return begun[-1]

    yield make
    for one in begun:
        one.close()
