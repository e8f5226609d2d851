"""llama-cpp-python's server as the remote engine of chat and of batch. Needs the group `peers`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.batch_lines import answers, line, write

pytest.importorskip("llama_cpp.server.app", reason="llama-cpp-python[server] (group peers) is not installed")

START_S = 60.0


@pytest.fixture(scope="module")
def peer(tiny_model: Path) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(tiny_model), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--n_ctx", "512", "--logits_all", "True", "--chat_format", "chatml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1"
    deadline = time.monotonic() + START_S
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{url}/models").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            pytest.fail("llama-cpp-python's server did not start")
        yield url
    finally:
        process.kill()
        process.wait()


def test_it_answers_a_chat_and_a_batch(peer: str, main: Callable[..., Any], tmp_path: Path) -> None:
    options = ["-o", "temperature", "0", "-o", "num_predict", "8"]
    ran = main("-p", "Say hello", "-m", f"openai:{peer}", *options, "--output", "json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["text"]
    assert result["finish_reason"] in ("stop", "length")
    assert 0 < result["timings"]["predicted_n"] <= 8
    source, out = write(tmp_path / "in.jsonl", [line(f"r{i}") for i in range(4)]), tmp_path / "out.jsonl"
    ran = main("batch", str(source), str(out), "--engine", peer)
    assert ran.code == 0, ran.err
    assert sorted(answers(out)) == ["r0", "r1", "r2", "r3"]
