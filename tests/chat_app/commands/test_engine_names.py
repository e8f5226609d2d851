"""Engines of config.toml stand in the list of models and in the shell's completion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands.completion import model_names


@pytest.fixture
def engines(trusted_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = trusted_folder / "config"
    config.mkdir(mode=0o700)
    (config / "config.toml").write_text(
        '[engines.big]\nbase_url = "https://me:secret@host:9/v1"\nmodel = "m"\n'
    )
    (config / "config.toml").chmod(0o600)
    monkeypatch.setenv("LLAMA_CHAT_HOME", str(trusted_folder))


@pytest.mark.usefixtures("engines")
def test_they_are_listed_without_their_logins(main: Callable[..., Any]) -> None:
    ran = main("models", "list")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "big  remote, host:9"
    rows = json.loads(main("models", "list", "--output", "json").out)
    assert rows[-1] == {"name": "big", "source": "remote", "host": "host:9"}
    assert "secret" not in ran.out + json.dumps(rows)
    assert "big" in model_names()


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize("name", ["big", "big#other", "openai:http://host:9/v1"])
def test_what_needs_a_model_here_says_so_of_a_server(name: str, main: Callable[..., Any]) -> None:
    for command in (["tokenize", "x"], ["bench"], ["profile", "inference"]):
        ran = main(*command, "-m", name)
        assert (ran.code, ran.out) == (2, "")
        assert "this needs a model on this machine; -m names a server" in ran.err
