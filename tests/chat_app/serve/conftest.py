"""A server of the tiny model on a free port, and OpenAI's own client for it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chat_app.serve.guard import Policy
from chat_app.serve.run import make_server, running
from chat_app.serve.worker import Worker
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine

if TYPE_CHECKING:
    import openai

MIB = 1 << 20


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    worker: Worker
    engine: TextEngine

    def client(self, key: str = "none") -> openai.OpenAI:
        import openai  # as slow as nothing else, and every process collects this

        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)


@pytest.fixture(scope="module")
def engine(tiny_model: Path, kernel_cache: Path) -> Iterator[TextEngine]:
    made = load_engine(tiny_model, backend="numpy", kernel_cache=kernel_cache)
    yield made
    made.close()


Start = Callable[..., contextlib.AbstractContextManager[Served]]


@pytest.fixture(scope="module")
def start(engine: TextEngine) -> Start:
    """A server for the length of a block: start(policy=..., queue_n=..., parallel=...)."""

    @contextlib.contextmanager
    def begin(
        *,
        policy: Policy | None = None,
        queue_n: int = 64,
        engine: TextEngine = engine,
        **batch: Any,
    ) -> Iterator[Served]:
        options = {"kv_budget_bytes": 64 * MIB, "max_sequences": 16, **batch}
        worker = Worker(BatchEngine(engine.model, **options), engine.tokenizer, queue_n=queue_n)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(256)
            server = make_server(engine, worker, policy or Policy("127.0.0.1"), "tiny-chat")
            with running(server, sock):
                yield Served(f"http://127.0.0.1:{sock.getsockname()[1]}", worker, engine)

    return begin


@pytest.fixture(scope="module")
def served(start: Start) -> Iterator[Served]:
    with start() as one:
        yield one
