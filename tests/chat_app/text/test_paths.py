"""Paths as people write them, wherever one can be given."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

import chat_app
from chat_app.config.paths import HOME_VARIABLE, get_paths
from chat_app.models.stores.machine import Machine
from chat_app.text.errors import SentenceError
from chat_app.text.paths import read_path

NOBODY = "~no-such-user-here/x"


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_path("~") == tmp_path
    assert read_path("~/a b") == tmp_path / "a b"
    assert read_path("a/~") == Path("a/~")
    with pytest.raises(ValueError, match=r"the home that '~no-such-user-here/x' begins with is not known"):
        read_path(NOBODY)


@pytest.mark.parametrize(
    "words",
    [
        ("batch", NOBODY, "out.jsonl"),
        ("batch", "in.jsonl", NOBODY),
        ("perplexity", NOBODY),
        ("perplexity", "x", "--tokenizer", NOBODY),
        ("tokenize", "x", "--tokenizer", NOBODY),
        ("lab", "run", "rope", "--output-file", NOBODY),
        ("lab", "run", "rope", "--tokenizer", NOBODY),
        ("lab", "report", NOBODY),
        ("lab", "report", "--readme", NOBODY),
        ("chats", "export", "--all", "--to", NOBODY),
        ("chats", "import", NOBODY),
        ("profile", "all", "--report", NOBODY),
        ("models", "convert", "src", NOBODY),
        ("models", "convert", "src", "dst", "--tokenizer", NOBODY),
        ("-p", "x", "--tokenizer", NOBODY),
    ],
    ids=" ".join,
)
def test_a_home_of_nobody_is_wrong_usage_everywhere(main: Any, words: tuple[str, ...]) -> None:
    ran = main(*words)
    assert ran.code == 2
    assert "~no-such-user-here/x' begins with is not known" in ran.err
    assert "Traceback" not in ran.err


def test_a_tilde_behind_an_equals_sign_which_no_shell_expands(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran = main("models", "convert", "no-model", "--tokenizer=~/tokenizer.bin", "~/made.gguf")
    assert ran.code == 1
    assert not (tmp_path / "~").exists()


def test_a_model_of_nobody_is_no_model(main: Any) -> None:
    for words in (("models", "inspect", NOBODY), ("-p", "x", "--model", NOBODY)):
        ran = main(*words)
        assert ran.code == 1
        assert "is neither a file nor a known model" in ran.err


def test_a_user_without_a_home_is_told_and_gets_no_folder_called_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_uid: int) -> Any:
        raise KeyError("as for the user of a container")

    for variable in (
        "HOME",
        HOME_VARIABLE,
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(SentenceError, match=f"Set {HOME_VARIABLE} to a folder"):
        get_paths()
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert get_paths().data == tmp_path / "data"
    assert Machine().home == Path("/")


def test_no_other_module_expands_a_tilde() -> None:
    root = Path(chat_app.__file__).parents[1]
    files = [path for package in ("chat_app", "llama_core") for path in (root / package).rglob("*.py")]
    found = {path.name for path in files if ".expanduser(" in path.read_text(encoding="utf-8")}
    assert found == {"paths.py"}
