"""A small package index on this machine, a package with a small model, and the app told to use them."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import os
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat_app.models import catalogue as models
from chat_app.models.catalogue import CatalogueEntry
from chat_app.models.download import pull as download

MODEL = random.Random(6).randbytes(1_500_000)
MEMBER = "fake_model/tiny.gguf"


def make_wheel(model: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, model)
        info = "fake_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


WHEEL = make_wheel(MODEL)
ENTRY = CatalogueEntry(
    name="tiny",
    aliases=("tiny-alias",),
    title="A test model",
    licence="MIT",
    package="fake-model",
    version="1.0",
    member=MEMBER,
    model_bytes=len(MODEL),
    model_sha256=hashlib.sha256(MODEL).hexdigest(),
    wheel_bytes=len(WHEEL),
    wheel_sha256=hashlib.sha256(WHEEL).hexdigest(),
)


@dataclasses.dataclass(frozen=True)
class FakePackage:
    """The model's bytes, the wheel that holds them, and the catalogue's entry for it."""

    model: bytes = MODEL
    wheel: bytes = WHEEL
    entry: CatalogueEntry = ENTRY

    def make_wheel(self, model: bytes) -> bytes:
        """The same package with another model in it."""
        return make_wheel(model)


@pytest.fixture(scope="session")
def fake() -> FakePackage:
    return FakePackage()


@pytest.fixture
def visible(llama_chat_home: Path) -> Callable[[], list[str]]:
    """What stands in the models folder but locks and notes of hashes; staging folders count too."""

    def names() -> list[str]:
        folder = llama_chat_home / "cache" / "models"
        found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(name for name in found if not name.startswith(".lock-") and name != "hashes.json")

    return names


class Index:
    """A package index with one wheel, and the faults it is told to have."""

    def __init__(self) -> None:
        self.wheel = WHEEL
        self.href = "/files/fake_model-1.0-py3-none-any.whl"
        self.cut_at: int | None = None
        self.pause_at: int | None = None
        self.resume = threading.Event()
        self.paused = threading.Event()
        self.downloads = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.startswith("/simple/fake-model"):
                    link = f'<a href="{index.href}">fake_model-1.0-py3-none-any.whl</a>'
                    self.reply(link.encode(), "text/html")
                elif self.path.endswith(".whl"):
                    index.downloads += 1
                    self.reply(index.wheel, "application/zip")
                else:
                    self.send_error(404)

            def reply(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if kind != "application/zip":
                    self.wfile.write(body)
                    return
                stop = index.pause_at if index.pause_at is not None else index.cut_at
                self.wfile.write(body[:stop])
                if index.pause_at is not None:
                    self.wfile.flush()
                    index.paused.set()
                    index.resume.wait(300)
                    self.wfile.write(body[stop:])
                if index.cut_at is not None:
                    self.connection.close()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def close(self) -> None:
        self.resume.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> dict[str, CatalogueEntry]:
    entries = {"tiny": ENTRY}
    monkeypatch.setattr(models, "CATALOGUE", entries)
    monkeypatch.setattr(download, "CATALOGUE", entries)
    return entries


@pytest.fixture
def index(catalogue: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A running index that pip is told to use, and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    index = Index()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.address)
    monkeypatch.setenv("PIP_RETRIES", "0")
    yield index
    index.close()


@dataclasses.dataclass
class WheelSource:
    """The wheel that arrives where pip is left out."""

    wheel: bytes


@pytest.fixture
def without_pip(catalogue: object, fake: FakePackage, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """pip's part without pip, for faults at every point of ours: the wheel is written piece by piece."""
    source = WheelSource(fake.wheel)
    monkeypatch.setattr(download, "fetch_wheel", lambda entry, folder, *_: write_wheel(source.wheel, folder))
    return source


def write_wheel(wheel: bytes, folder: Path) -> Path:
    path = folder / "fake_model-1.0-py3-none-any.whl"
    with path.open("wb") as file:
        for start in range(0, len(wheel), 1 << 16):
            file.write(wheel[start : start + (1 << 16)])
            file.flush()
    return path
