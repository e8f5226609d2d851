"""Models from a hub, against a small server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chat_app.models.catalogue import find_local, remove_model
from chat_app.models.download import hub as download_hub
from chat_app.models.download.hub_child import choose
from chat_app.models.download.pull import DownloadCancelled, DownloadError, look, pull
from chat_app.models.facts import Facts, facts_of_file
from tests.support.fake_hub import Hub
from tests.support.model_files import TinyModel, write_gguf

GGUF = random.Random(5).randbytes(300_000)


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
    """The files in the models folder but locks, and what is kept to go on with."""
    models = home / "cache" / "models"
    hidden = (".lock-", ".unfinished-")
    files = [path for path in models.rglob("*") if path.is_file()]
    return [path for path in files if not path.relative_to(models).parts[0].startswith(hidden)]


def kept(home: Path) -> dict[str, bytes]:
    """What is kept to go on with, by its name there."""
    return {path.name: path.read_bytes() for path in home.glob("cache/models/.unfinished-*/*")}


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
    assert (folder / "tokenizer_config.json").read_bytes() == b"{}", "the same bytes under three names"
    assert {path.name for path in folder.iterdir()} == set(wanted)
    assert find_local("hf:owner/repo") == folder


@pytest.mark.parametrize("name", ["tiny.gguf", "config.json"])
def test_bytes_that_were_not_promised_are_refused(name: str, hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"tiny.gguf": GGUF} if name == "tiny.gguf" else {"config.json": b"{}", "a.safetensors": GGUF}
    hub.broken = {name}
    with pytest.raises(DownloadError, match="Try again with: llama-chat models pull hf:owner/repo"):
        pull("hf:owner/repo")
    assert left_behind(llama_chat_home) == []
    assert all(hashlib.sha256(data).hexdigest() == key for key, data in kept(llama_chat_home).items())


def test_cancel_and_retry(hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"tiny.gguf": GGUF}
    hub.pause.clear()
    with pytest.raises(DownloadCancelled):
        pull("hf:owner/repo", cancelled=hub.asked.is_set)
    assert left_behind(llama_chat_home) == []
    hub.pause.set()
    assert pull("hf:owner/repo").read_bytes() == GGUF


BIG = random.Random(7).randbytes((5 << 20) + 77)
MIB = 1 << 20


@pytest.mark.parametrize("cut", [MIB, MIB + 5])
def test_a_broken_connection_goes_on_where_it_broke(cut: int, hub: Hub, llama_chat_home: Path) -> None:
    hub.files, hub.cut = {"tiny.gguf": BIG}, cut
    assert pull("hf:owner/repo").read_bytes() == BIG
    assert hub.begins == [n * MIB for n in range(len(hub.begins))]
    assert len(hub.begins) >= 5


def test_a_hub_without_ranges_begins_anew(hub: Hub) -> None:
    hub.files, hub.cut, hub.ignores_ranges = {"tiny.gguf": BIG}, 2 * MIB, True
    pulled: list[Path] = []

    def mend(done: int, total: int) -> None:
        hub.cut = None if done >= MIB else hub.cut

    pulled.append(pull("hf:owner/repo", mend))
    assert pulled[0].read_bytes() == BIG
    assert len(hub.begins) > 1


def test_a_stopped_download_goes_on(hub: Hub, llama_chat_home: Path) -> None:
    """What has arrived before is kept, and nothing of it is fetched again."""
    hub.files = {"tiny.gguf": BIG}
    part = llama_chat_home / "cache" / "models" / ".unfinished-hf-owner-repo"
    part.mkdir(parents=True)
    key = hashlib.sha256(BIG).hexdigest()
    (part / f"{key}.part").write_bytes(BIG[: 3 * MIB + 1])
    hub.pause.clear()  # nothing is sent before the first look at how much is here
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        hub.pause.set()

    assert pull("hf:owner/repo", progress).read_bytes() == BIG
    assert hub.begins == [3 * MIB + 1]
    assert min(seen) == 3 * MIB + 1
    assert not part.exists()


@pytest.mark.parametrize("n_wrong", [MIB, len(BIG), len(BIG) + 1])
def test_a_part_with_wrong_bytes_is_found_out(n_wrong: int, hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"tiny.gguf": BIG}
    folder = llama_chat_home / "cache" / "models" / ".unfinished-hf-owner-repo"
    folder.mkdir(parents=True)
    (folder / f"{hashlib.sha256(BIG).hexdigest()}.part").write_bytes(b"?" * n_wrong)
    if n_wrong <= len(BIG):
        with pytest.raises(DownloadError, match=r"tiny\.gguf is not what the hub promised"):
            pull("hf:owner/repo")
    assert pull("hf:owner/repo").read_bytes() == BIG


def test_a_killed_download_goes_on(hub: Hub, llama_chat_home: Path) -> None:
    """The process is killed, so it can end nothing; its child ends by itself, though no byte comes, and the
    next goes on."""
    hub.files = {"tiny.gguf": BIG}
    hub.stall_at = 2 * MIB
    code = "from chat_app.models.download.pull import pull; pull('hf:owner/repo')"
    process = subprocess.Popen([sys.executable, "-c", code])
    folder = llama_chat_home / "cache" / "models" / ".unfinished-hf-owner-repo"
    part = folder / f"{hashlib.sha256(BIG).hexdigest()}.part"
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 2 * MIB):
        assert time.monotonic() < end
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    assert children
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    hub.stall_at = None
    hub.stalled.set()
    assert pull("hf:owner/repo").read_bytes() == BIG
    assert hub.begins == [0, 2 * MIB]


def test_more_bytes_than_promised_fill_no_disk(hub: Hub, llama_chat_home: Path) -> None:
    hub.files, hub.longer = {"tiny.gguf": BIG}, 3 * MIB
    with pytest.raises(DownloadError, match="more bytes arrived than were promised"):
        pull("hf:owner/repo")
    assert sum(len(data) for data in kept(llama_chat_home).values()) <= len(BIG)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:owner/repo", "m-Q4_K_M.gguf"),
        ("hf:owner/repo:Q8_0", "m-q8_0.gguf"),
        ("hf:owner/repo:q8_0", "m-q8_0.gguf"),
    ],
)
def test_a_type_is_chosen(name: str, expected: str, hub: Hub) -> None:
    names = ("m-Q8_K.gguf", "m-q8_0.gguf", "m-Q4_K_M.gguf", "m-IQ4_XS.gguf", "mmproj-m-Q4_K_M.gguf")
    hub.files = {file: file.encode() for file in names}
    path = pull(name)
    assert path.name == expected
    assert pull(name) == find_local(name) == path
    assert hub.begins == [0]


def test_choose_takes_the_best_type() -> None:
    names = [f"m-{kind}.gguf" for kind in ("Q2_K", "F16", "Q8_0", "IQ4_XS", "Q5_K_M")]
    assert choose(names, None) == ["m-Q5_K_M.gguf"]
    assert choose(names, None, "iq4_xs") == ["m-IQ4_XS.gguf"]
    with pytest.raises(ValueError, match="no GGUF model of type Q6_K"):
        choose(names, None, "Q6_K")
    with pytest.raises(ValueError, match=r"several models of type Q8_0; name one of: a-Q8_0\.gguf, b-Q8_0"):
        choose(["a-Q8_0.gguf", "b-Q8_0.gguf"], None, "Q8_0")


def test_several_models_must_be_chosen_from(hub: Hub) -> None:
    hub.files = {"a.gguf": b"x", "b.gguf": b"x"}
    with pytest.raises(DownloadError, match=r"name one of: a\.gguf, b\.gguf"):
        pull("hf:owner/repo")
    with pytest.raises(DownloadError, match="no GGUF model of type Q8_0; the types there are: none"):
        pull("hf:owner/repo:q8_0")
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
    "name",
    [
        "hf:",
        "hf:a",
        "hf:../x",
        "hf:a/..",
        "hf:a/b/../../c",
        "hf:a//b",
        "hf:a/b c",
        "hf:a/b:",
        "hf:a/b:../c",
        "hf:a/b/c:Q8_0",
    ],
)
def test_malformed_names(name: str, llama_chat_home: Path) -> None:
    with pytest.raises(DownloadError, match="not of the form"):
        pull(name)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "C:x"])
def test_a_hub_cannot_name_files_outside(name: str) -> None:
    with pytest.raises(DownloadError, match="refused"):
        download_hub._inside(name)


@pytest.mark.parametrize("name", ["../../../escaped.gguf", "/escaped.gguf", "a/../../../../escaped.gguf"])
def test_a_file_that_a_hub_names_so_leaves_no_trace(name: str, hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {name: GGUF}
    with pytest.raises(DownloadError):
        pull("hf:owner/repo")
    assert list(llama_chat_home.parent.rglob("escaped.gguf")) == []
    assert not Path("/escaped.gguf").exists()
    assert left_behind(llama_chat_home) == []


@pytest.mark.parametrize(
    "answer",
    [b"<html>no JSON</html>", b"[" * 200_000, b"[]", b'{"id": 7, "sha": [], "siblings": {"rfilename": 5}}'],
    ids=["no JSON", "nested deeply", "a list", "other types"],
)
def test_what_is_no_answer_of_a_hub_is_a_sentence(answer: bytes, hub: Hub, llama_chat_home: Path) -> None:
    hub.files, hub.answer = {"tiny.gguf": GGUF}, answer
    with pytest.raises(DownloadError, match="Try again with: llama-chat models pull hf:owner/repo") as raised:
        pull("hf:owner/repo")
    assert "\n" not in str(raised.value)
    assert left_behind(llama_chat_home) == []
    assert kept(llama_chat_home) == {}


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
    assert choose(names, None) == q4_m
    with pytest.raises(
        ValueError, match=r"several models of type Q4_K; name one of: Llama-Q4_K-00001-of-00002"
    ):
        choose(names, None, "Q4_K")
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


@pytest.fixture
def small_head(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> int:
    """So many bytes count as the head: the whole header of the tiny model, and not its data."""
    nbytes = tiny_model.read_bytes().rindex(b"blk.1.") + 300
    assert nbytes < tiny_model.stat().st_size / 2
    monkeypatch.setattr(download_hub, "HEAD_BYTES", nbytes)
    return nbytes


@pytest.mark.parametrize("ranges", [True, False])
def test_a_look_reads_the_header_alone(
    ranges: bool, hub: Hub, small_head: int, tiny_model: Path, llama_chat_home: Path
) -> None:
    data = tiny_model.read_bytes()
    hub.files, hub.ignores_ranges = {"tiny-1M-F32.gguf": data}, not ranges
    found = look("hf:owner/repo")
    assert found is not None
    assert (found.nbytes, found.facts.runs, found.facts.family) == (len(data), True, "llama")
    assert found.facts.works == facts_of_file(tiny_model).works
    assert left_behind(llama_chat_home) == []
    (part,) = kept(llama_chat_home).values()
    assert data.startswith(part)
    assert len(part) == small_head if ranges else len(part) <= small_head
    assert look("hf:owner/repo") is not None
    hub.ignores_ranges, hub.begins[:] = False, []
    assert pull("hf:owner/repo").read_bytes() == data, "the download goes on behind the header"
    assert hub.begins == [len(part)]
    assert look("hf:owner/repo") is None, "it is here"


def test_a_look_into_what_is_none(hub: Hub, llama_chat_home: Path) -> None:
    hub.files = {"a.gguf": GGUF}
    found = look("hf:owner/repo")
    assert found is not None
    assert "expected b'GGUF'" in found.facts.problem
    hub.files = {"config.json": b"{}", "model.safetensors": GGUF}
    found = look("hf:owner/repo")
    assert found is not None
    assert (found.nbytes, found.facts) == (len(GGUF) + 2, Facts())
    assert left_behind(llama_chat_home) == []
    with pytest.raises(DownloadError, match="no repository owner/nothing"):
        look("hf:owner/nothing")


def test_what_would_not_run_is_not_fetched(
    hub: Hub, tmp_path: Path, main: Any, llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf", TinyModel(), extra={"general.architecture": "mamba"})
    hub.files = {"m.gguf": path.read_bytes()}
    shown = main("models", "show", "hf:owner/repo")
    assert (shown.code, "It does not run here" in shown.out, "mamba" in shown.out) == (0, True, True)
    refused = main("models", "pull", "hf:owner/repo")
    assert refused.code == 1
    assert "does not run here" in refused.err
    assert "--anyway" in refused.err
    assert find_local("hf:owner/repo") is None
    assert main("models", "pull", "--anyway", "hf:owner/repo").code == 0
    assert find_local("hf:owner/repo") is not None


def test_what_is_too_large_is_not_fetched(
    hub: Hub, tiny_model: Path, main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = {"m.gguf": tiny_model.read_bytes()}
    monkeypatch.setattr("llama_core.memory.available_bytes", lambda: 1000)
    refused = main("models", "pull", "hf:owner/repo")
    assert refused.code == 1
    assert "MiB are free" in refused.err


def test_a_model_that_is_here_is_shown(tiny_model: Path, main: Any) -> None:
    shown = main("models", "show", str(tiny_model))
    assert shown.code == 0
    assert "here" in shown.out.splitlines()[0]
    assert "tok/s" in shown.out.splitlines()[1]
    row = json.loads(main("models", "show", str(tiny_model), "--output", "json").out)
    assert (row["backend"], row["path"], row["fits"]) == ("jit", str(tiny_model), True)
