"""Stores laid out as the programs lay them out, sound and damaged, on machines of every kind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app import cli
from chat_app.models import catalogue, facts
from chat_app.models.catalogue import ModelNotFound, local_models, remove_model, resolve_model
from chat_app.models.stores import in_stores
from chat_app.models.stores.machine import MAX_SMALL_BYTES, Machine, walk


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path / "home", {}, "linux", tmp_path / "share")
    monkeypatch.setattr(catalogue, "this_machine", lambda: found)
    return found


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `llama-chat models list` prints."""

    def run(*options: str) -> str:
        capsys.readouterr()
        assert cli.main(["models", "list", *options]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def put(tiny_model: Path) -> Callable[[Path], Path]:
    """Puts the tiny model at a path."""

    def at(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_model, path)
        return path

    return at


def ollama(root: Path, name: str, model: bytes, host: str = "registry.ollama.ai") -> tuple[Path, Path]:
    """A model as `ollama pull` leaves it; name: NAMESPACE/MODEL/TAG. Returns manifest and blob."""

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        (root / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    image = "application/vnd.ollama.image."
    config = json.dumps({"model_format": "gguf", "model_type": "1.7B", "file_type": "Q4_K_M"}).encode()
    layers = [blob(b"{{ .Prompt }}", image + "template"), blob(model, image + "model")]
    content = {"schemaVersion": 2, "config": blob(config, "application/x"), "layers": layers}
    manifest = root / "manifests" / host / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(content))
    return manifest, root / "blobs" / f"sha256-{layers[1]['digest'][7:]}"


@pytest.mark.parametrize("chosen", [False, True])
def test_ollama(machine: Machine, tiny_model: Path, chosen: bool, tmp_path: Path) -> None:
    root = tmp_path / "disk" if chosen else machine.home / ".ollama" / "models"
    if chosen:
        machine.environ["OLLAMA_MODELS"] = str(root)  # type: ignore[index]
    data = tiny_model.read_bytes()
    _, blob = ollama(root, "library/qwen3/1.7b", data)
    ollama(root, "library/llama3.2/latest", data)
    ollama(root, "someone/own/q8", data)
    ollama(root, "bartowski/Some-GGUF/latest", data, host="hf.co")
    names = [model.name for model in in_stores(machine)]
    assert sorted(names) == [
        "ollama:hf.co/bartowski/Some-GGUF:latest",
        "ollama:llama3.2:latest",
        "ollama:qwen3:1.7b",
        "ollama:someone/own:q8",
    ]
    assert resolve_model("ollama:qwen3:1.7b") == resolve_model("ollama:llama3.2") == blob
    with pytest.raises(
        ModelNotFound, match=r"no model 'ollama:qwen3:1.8b' in ollama.*Did you mean ollama:qwen3"
    ):
        resolve_model("ollama:qwen3:1.8b")
    with pytest.raises(ModelNotFound, match="belongs to ollama"):
        remove_model("ollama:qwen3:1.7b")
    assert blob.exists()
    (told,) = {facts.facts_of([model])[model.path] for model in in_stores(machine)}
    assert (told.family, told.size, told.type, told.runs) == ("llama", "1.7B", "Q4_K_M", True)


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no json": (lambda manifest, blob: manifest.write_text("{"), "is no JSON"),
    "deep": (lambda manifest, blob: manifest.write_text("[" * 500_000), "is no JSON"),
    "a list": (lambda manifest, blob: manifest.write_text("[]"), "no JSON object"),
    "huge": (lambda manifest, blob: manifest.write_text(" " * (MAX_SMALL_BYTES + 1)), "more than"),
    "no layers": (lambda manifest, blob: manifest.write_text('{"layers": 3}'), "names no model"),
    "a way out": (
        lambda manifest, blob: manifest.write_text(
            '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../../x"}]}'
        ),
        "by no SHA-256",
    ),
    "no blob": (lambda manifest, blob: blob.unlink(), "No such file"),
    "half a blob": (lambda manifest, blob: os.truncate(blob, 100), "has 100 bytes of"),
    "a link to itself": (lambda manifest, blob: (blob.unlink(), blob.symlink_to(blob)), "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_ollama_is_told(
    name: str, machine: Machine, tiny_model: Path, listed: Callable[..., str]
) -> None:
    damage, said = DAMAGE[name]
    damage(*ollama(machine.home / ".ollama" / "models", "library/x/latest", tiny_model.read_bytes()))
    with pytest.raises(ModelNotFound, match=f"only in part.*{said}"):
        resolve_model("ollama:x")
    assert said in listed()
    (row,) = [row for row in json.loads(listed("--output", "json")) if row["name"] == "ollama:x:latest"]
    assert (row["complete"], row["runs"]) == (False, False)


def test_the_hub_cache(machine: Machine, put: Callable[[Path], Path], tiny_model: Path) -> None:
    """By links to blobs, at the revision that main means; another program's folder is left alone."""
    root = machine.home / ".cache" / "huggingface" / "hub"
    repo = root / "models--owner--Some-0.6B-GGUF"
    blob = put(repo / "blobs" / "abc")
    for revision in ("0ld", "2ew"):
        folder = repo / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "Some-Q8_0.gguf").symlink_to(os.path.relpath(blob, folder))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("2ew")
    (root / "datasets--owner--x").mkdir()
    path = repo / "snapshots" / "2ew" / "Some-Q8_0.gguf"
    assert resolve_model("hf:owner/Some-0.6B-GGUF") == path
    assert resolve_model("hf:owner/Some-0.6B-GGUF/Some-Q8_0.gguf") == path
    (model,) = in_stores(machine)
    told = facts.facts_of([model])[path]
    assert (told.family, told.size, told.type, model.source) == (
        "llama",
        "0.6B",
        "Q8_0",
        "Hugging Face cache",
    )
    (repo / "refs" / "main").write_text("../../..")
    assert resolve_model("hf:owner/Some-0.6B-GGUF").name == path.name
    blob.unlink()
    with pytest.raises(ModelNotFound, match=r"Some-Q8_0\.gguf is on this machine only in part.*missing"):
        resolve_model("hf:owner/Some-0.6B-GGUF/Some-Q8_0.gguf")


def test_a_safetensors_folder_of_the_hub_cache(machine: Machine) -> None:
    machine.environ["HF_HOME"] = str(machine.home / "hf")  # type: ignore[index]
    folder = machine.home / "hf" / "hub" / "models--o--Qwen3-0.6B" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen3", "torch_dtype": "bfloat16"}')
    assert not list(in_stores(machine)), "a config alone is what a tokenizer's user has"
    (folder / "model-1.safetensors").write_bytes(b"x")
    (model,) = in_stores(machine)
    told = facts.facts_of([model])[folder]
    assert (told.family, told.size, told.type, told.runs) == ("qwen3", "0.6B", "bfloat16", False)
    assert "model-1.safetensors" in told.problem
    assert resolve_model("hf:o/Qwen3-0.6B") == folder
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFound, match="1 of its 2 files are missing"):
        resolve_model("hf:o/Qwen3-0.6B")


@pytest.mark.parametrize(
    ("platform", "where", "name"),
    [
        ("linux", ".lmstudio/models/pub/Name-GGUF/a-Q4_0.gguf", "lmstudio:pub/Name-GGUF"),
        ("linux", ".cache/lm-studio/models/pub/Name-GGUF/a.gguf", "lmstudio:pub/Name-GGUF/a"),
        ("linux", ".cache/llama.cpp/a_b_c-Q4_K_M.gguf", "llama.cpp:a_b_c-Q4_K_M"),
        ("darwin", "Library/Caches/llama.cpp/c.gguf", "llama.cpp:c"),
        ("win32", "AppData/Local/llama.cpp/c.gguf", "llama.cpp:c"),
        ("linux", ".local/share/nomic.ai/GPT4All/A.Q4_0.gguf", "gpt4all:A.Q4_0"),
        ("darwin", "Library/Application Support/nomic.ai/GPT4All/A.Q4_0.gguf", "gpt4all:A.Q4_0.gguf"),
        ("linux", ".cache/gpt4all/A.gguf", "gpt4all:A"),
        ("linux", ".local/share/Jan/data/llamacpp/models/janhq/Jan-v1/model.gguf", "jan:janhq/Jan-v1"),
        ("win32", "AppData/Roaming/Jan/data/llamacpp/models/Jan-v1/model.gguf", "jan:Jan-v1"),
        ("linux", "jan/models/tinyllama-1.1b/a.gguf", "jan:tinyllama-1.1b"),
    ],
)
def test_folders_of_other_programs(
    platform: str,
    where: str,
    name: str,
    tmp_path: Path,
    put: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(tmp_path / "home", {}, platform, tmp_path)
    monkeypatch.setattr(catalogue, "this_machine", lambda: machine)
    path = put(machine.home / where)
    (path.parent / "mmproj-a.gguf").write_bytes(b"no model")
    (path.parent / "b.gguf.part").write_bytes(b"unfinished")
    assert resolve_model(name) == path
    assert [model.path for model in local_models()] == [path]
    second = put(path.with_name("second.gguf"))
    assert len({model.name for model in local_models()}) == 2
    for model in local_models():
        assert resolve_model(model.name) == model.path
    assert second in {model.path for model in local_models()}


def test_llama_cpps_own_names(machine: Machine, put: Callable[[Path], Path]) -> None:
    folder = machine.home / "cache"
    machine.environ["LLAMA_CACHE"] = str(folder)  # type: ignore[index]
    path = put(folder / "ggml-org_Some-GGUF_sub_a-Q8_0.gguf")
    manifest = folder / "manifest=ggml-org=Some-GGUF=Q8_0.json"
    manifest.write_text(json.dumps({"ggufFile": {"rfilename": "sub/a-Q8_0.gguf"}}))
    (folder / "manifest=x=y=z.json").write_text("{")
    assert resolve_model("llama.cpp:ggml-org/Some-GGUF:Q8_0") == path
    assert resolve_model(f"llama.cpp:{path.stem}") == path


def test_lm_studios_chosen_folder(machine: Machine, put: Callable[[Path], Path], tmp_path: Path) -> None:
    path = put(tmp_path / "disk" / "pub" / "name" / "a.gguf")
    settings = machine.home / ".lmstudio" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "disk")}))
    assert resolve_model("lmstudio:pub/name") == path


def test_folders_of_the_settings(
    machine: Machine,
    put: Callable[[Path], Path],
    tmp_path: Path,
    llama_chat_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the file and from the variable; one name twice means the first, and the other its path."""
    first, second = put(tmp_path / "a" / "m.gguf"), put(tmp_path / "b" / "sub" / "m.gguf")
    config = llama_chat_home / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text(
        f"model_folders = [{json.dumps(str(tmp_path / 'a'))}, {json.dumps(str(tmp_path / 'b'))}]"
    )
    assert resolve_model("m") == first
    assert resolve_model("sub/m") == second
    assert {model.name: model.path for model in local_models()} == {"m": first, str(second): second}
    monkeypatch.setenv("LLAMA_CHAT_MODEL_FOLDERS", json.dumps([str(tmp_path / "b")]))
    assert resolve_model("m") == second


def test_a_walk_ends(tmp_path: Path) -> None:
    """Circles of links, links to themselves, pipes, and depths without end."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    os.mkfifo(tmp_path / "pipe.gguf")
    deep = tmp_path / "a"
    for _ in range(30):
        deep /= "d"
        deep.mkdir()
    folders = [folder for folder, _ in walk(tmp_path)]
    assert len(folders) == len(set(folders)) < 15
    assert list(walk(tmp_path / "absent")) == []


def test_headers_are_read_once(
    machine: Machine, put: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    path = put(machine.home / ".lmstudio" / "models" / "p" / "n" / "a.gguf")
    (model,) = in_stores(machine)
    first = facts.facts_of([model])[path]
    assert (first.family, first.type, first.runs) == ("llama", "F32", True)
    assert first.size.endswith("M")

    def refuse(model: object) -> facts.Facts:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(facts, "_read_file", refuse)
        assert facts.facts_of([model])[path] == first
    path.write_bytes(b"GGUF no more")
    (model,) = in_stores(machine)
    assert "a.gguf" in facts.facts_of([model])[path].problem
    path.unlink()
    assert "cannot be read" in facts.facts_of([model])[path].problem
    facts.facts_of([])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', "\0" * 100])
def test_a_damaged_memory_of_headers(
    text: str, machine: Machine, put: Callable[[Path], Path], llama_chat_home: Path
) -> None:
    put(machine.home / ".lmstudio" / "models" / "p" / "n" / "a.gguf")
    (llama_chat_home / "cache" / "model-facts.json").write_text(text)
    (told,) = facts.facts_of(in_stores(machine)).values()
    assert told.runs


def test_many_models_are_listed_without_reading_them(
    machine: Machine, tiny_model: Path, listed: Callable[..., str]
) -> None:
    """200 models: the second list opens none of them, and takes a fraction of the first."""
    folder = machine.home / ".cache" / "llama.cpp"
    folder.mkdir(parents=True)
    for n in range(200):
        shutil.copy(tiny_model, folder / f"model-{n}.gguf")
    begin = time.perf_counter()
    first = listed()
    middle = time.perf_counter()
    assert listed() == first
    end = time.perf_counter()
    assert first.count("llama.cpp:model-") == 200
    assert end - middle < middle - begin


def test_names_from_outside_are_inert(
    machine: Machine, put: Callable[[Path], Path], listed: Callable[..., str]
) -> None:
    put(machine.home / ".lmstudio" / "models" / "p" / "n\x1b[31m\nx" / "a.gguf")
    out = listed()
    assert "\x1b" not in out
    assert "a.gguf" in out
