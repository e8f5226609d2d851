"""Models from a hub, against a small server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.models.catalogue import find_local, remove_model
from chat_app.models.download import hub as download_hub
from chat_app.models.download.hub_child import choose
from chat_app.models.download.pull import DownloadCancelled, DownloadError, pull

pytest.importorskip("huggingface_hub", reason="the optional package huggingface_hub is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GGUF = random.Random(5).randbytes(300_000)


class Hub:
    """One repository `owner/repo`. `broken`: files whose bytes are not those promised."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.pause = threading.Event()
        self.pause.set()
        self.asked = threading.Event()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                prefix = f"/owner/repo/resolve/{COMMIT}/"
                if path in ("/api/models/owner/repo", f"/api/models/owner/repo/revision/{COMMIT}"):
                    self.reply(json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
                elif path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                    name = path.removeprefix(prefix)
                    data = hub.files[name]
                    etag = f'"{hashlib.sha256(data).hexdigest()}"'
                    if self.command == "GET":
                        hub.asked.set()
                        hub.pause.wait(300)
                    served = b"?" * len(data) if name in hub.broken else data
                    self.reply(served, {"ETag": etag, "X-Repo-Commit": COMMIT})
                else:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def reply(self, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith((".gguf", ".safetensors")):
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": "owner/repo", "modelId": "owner/repo", "sha": COMMIT, "siblings": siblings}

    def close(self) -> None:
        self.pause.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in [name for name in os.environ if name.startswith("HF_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    yield hub
    hub.close()


def left_behind(home: Path) -> list[Path]:
    models = home / "cache" / "models"
    return [path for path in models.rglob("*") if path.is_file() and not path.name.startswith(".lock-")]


def test_the_only_gguf_is_fetched(hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"README.md": b"hello", "tiny.Q4_0.gguf": GGUF}
    seen: list[tuple[int, int]] = []
    path = pull("hf:owner/repo", lambda done, total: seen.append((done, total)))
    assert path == llama_chat_home / "cache" / "models" / "hf" / "owner" / "repo" / "tiny.Q4_0.gguf"
    assert path.read_bytes() == GGUF
    assert left_behind(llama_chat_home) == [path]
    assert all(total == len(GGUF) >= done for done, total in seen)
    assert find_local("hf:owner/repo") == find_local("hf:owner/repo/tiny.Q4_0.gguf") == path
    hub.files = {}
    assert pull("hf:owner/repo") == path  # it is here: the hub is not asked
    remove_model("hf:owner/repo")
    assert find_local("hf:owner/repo") is None


def test_a_named_file_with_all_its_pieces(hub: Hub, llama_chat_home: Path) -> None:
    pieces = {f"q8/m-0000{n}-of-00002.gguf": GGUF[n:] for n in (1, 2)}
    hub.files = {**pieces, "other.gguf": b"x"}
    path = pull("hf:owner/repo/q8/m-00002-of-00002.gguf")
    assert path.name == "m-00001-of-00002.gguf"
    assert {one.name for one in path.parent.iterdir()} == {name.split("/")[1] for name in pieces}
    assert find_local("hf:owner/repo") == path
    path.unlink()
    assert find_local("hf:owner/repo") is None
    assert pull("hf:owner/repo/q8/m-00002-of-00002.gguf") == path
    remove_model("hf:owner/repo")
    assert left_behind(llama_chat_home) == []


def test_a_safetensors_folder(hub: Hub, llama_chat_home: Path) -> None:
    wanted = {
        "config.json": b"{}",
        "model.safetensors": GGUF,
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
    }
    hub.files = {**wanted, "README.md": b"hello", "consolidated.safetensors": b"x", "model.bin": b"x"}
    folder = pull("hf:owner/repo")
    assert folder == llama_chat_home / "cache" / "models" / "hf" / "owner" / "repo"
    assert {path.name for path in folder.iterdir()} == set(wanted)
    assert find_local("hf:owner/repo") == folder


@pytest.mark.parametrize("name", ["tiny.gguf", "config.json"])
def test_bytes_that_were_not_promised_are_refused(name: str, hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"tiny.gguf": GGUF} if name == "tiny.gguf" else {"config.json": b"{}", "a.safetensors": GGUF}
    hub.broken = {name}
    with pytest.raises(DownloadError, match="Try again with: llama-chat models pull hf:owner/repo"):
        pull("hf:owner/repo")
    assert left_behind(llama_chat_home) == []


def test_cancel_and_retry(hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"tiny.gguf": GGUF}
    hub.pause.clear()
    with pytest.raises(DownloadCancelled):
        pull("hf:owner/repo", cancelled=hub.asked.is_set)
    assert left_behind(llama_chat_home) == []
    hub.pause.set()
    assert pull("hf:owner/repo").read_bytes() == GGUF


def test_several_models_must_be_chosen_from(hub: Hub) -> None:
    hub.files = {"a.gguf": b"x", "b.gguf": b"x"}
    with pytest.raises(DownloadError, match=r"name one of: a\.gguf, b\.gguf"):
        pull("hf:owner/repo")
    with pytest.raises(DownloadError, match=r"there is no file c\.gguf"):
        pull("hf:owner/repo/c.gguf")


def test_an_unknown_repository(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="no repository owner/elsewhere that you may read"):
        pull("hf:owner/elsewhere")


def test_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="hub could not be reached"):
        pull("hf:owner/repo")


def test_without_the_package(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('as if it were not there')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DownloadError, match="huggingface_hub, which is not installed"):
        pull("hf:owner/repo")


@pytest.mark.parametrize(
    "name", ["hf:", "hf:a", "hf:../x", "hf:a/..", "hf:a/b/../../c", "hf:a//b", "hf:a/b c"]
)
def test_malformed_names(name: str, llama_chat_home: Path) -> None:
    with pytest.raises(DownloadError, match="not of the form"):
        pull(name)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "C:x"])
def test_a_hub_cannot_name_files_outside(name: str) -> None:
    with pytest.raises(DownloadError, match="refused"):
        download_hub._inside(name)


def test_choose_prefers_nothing_it_was_not_told() -> None:
    assert choose(["a.gguf"], None) == ["a.gguf"]
    assert choose(["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], None) == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]
    with pytest.raises(ValueError, match="neither"):
        choose(["README.md", "config.json"], None)


def shards(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def test_choose_takes_one_models_files_only() -> None:
    q4, q4_m = shards("Llama-Q4_K", 2), shards("Llama-Q4_K_M", 2)
    names = [*q4_m, "Llama-Q4_K-00001-of-00003.gguf", *q4]
    assert choose(names, q4[0]) == choose(names, q4[1]) == q4
    with pytest.raises(ValueError, match="name one of: Llama-Q4_K-00001-of-00002"):
        choose(names, None)
    with pytest.raises(ValueError, match=r"lacks a file of this model: Llama-Q4_K-00002-of-00003\.gguf"):
        choose(names, "Llama-Q4_K-00001-of-00003.gguf")
    with pytest.raises(ValueError, match=r"lacks a file .*x-00001-of-00002"):
        choose(["x-00002-of-00002.gguf"], None)


INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([*SHARDS, INDEX, "consolidated.safetensors"], [*SHARDS, INDEX]),
        (
            [*SHARDS, INDEX, "consolidated.safetensors", "consolidated.safetensors.index.json"],
            [*SHARDS, INDEX],
        ),
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "original/model-00001-of-00001.safetensors"], ["model.safetensors"]),
        (["weights.safetensors"], ["weights.safetensors"]),
    ],
)
def test_choose_takes_one_set_of_weights(weights: list[str], expected: list[str]) -> None:
    assert choose([*weights, "config.json", "README.md"], None) == sorted([*expected, "config.json"])


@pytest.mark.parametrize(
    "names", [[INDEX, "config.json"], ["model.safetensors"], ["a/b.safetensors", "config.json"]]
)
def test_choose_takes_no_part_of_a_model(names: list[str]) -> None:
    with pytest.raises(ValueError, match="neither"):
        choose(names, None)
