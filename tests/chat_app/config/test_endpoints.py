"""Servers as `-m` and config.toml name them; who may name them; what of a name is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.config.endpoints import (
    EndpointError,
    endpoint_of_table,
    find_endpoint,
    holds_login,
    model_label,
    parse_endpoint,
)
from chat_app.config.settings import Settings
from chat_app.config.sources import apply_config, apply_environment
from chat_app.engines.remote.keys import KeyMissingError, Secrets, find_key


@pytest.mark.parametrize(
    ("text", "url", "model", "host"),
    [
        ("openai:http://host:8000/v1#qwen", "http://host:8000/v1", "qwen", "host:8000"),
        ("openai:https://host/v1/", "https://host/v1", "", "host"),
        ("http://host:80", "http://host:80/v1", "", "host"),
        ("openai:http://[::1]:9/api#a/b", "http://[::1]:9/api", "a/b", "[::1]:9"),
        ("openai:https://me:pw%21@host/v1?key=k#m", "https://host/v1", "m", "host"),
    ],
)
def test_addresses(text: str, url: str, model: str, host: str) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.url, endpoint.model, endpoint.host) == (url, model, host)


def test_a_login_is_kept_but_not_shown() -> None:
    endpoint = parse_endpoint("openai:https://me:pw%21@host/v1?key=abcd")
    assert endpoint.login == ("me", "pw!")
    assert endpoint.query == "key=abcd"
    assert "pw!" not in repr(endpoint)
    assert "abcd" not in repr(endpoint)
    assert endpoint.name == model_label("openai:https://me:pw%21@host/v1") == "a server"
    assert holds_login("/model openai:https://me:pw@host/v1")
    assert not holds_login("/model openai:https://host/v1#m")


@pytest.mark.parametrize(
    "text", ["openai:", "openai:host:8000", "openai:ftp://host", "openai:http://", "http://[x"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(EndpointError, match="needs the address of a server"):
        parse_endpoint(text)


def test_a_table() -> None:
    table = {
        "base_url": "http://host/v1",
        "model": "m",
        "api_key_env": "K",
        "headers": {"X-A": "b"},
        "ctx_size": 9,
    }
    endpoint = endpoint_of_table("big", table)
    assert (endpoint.engine, endpoint.model, endpoint.key_variable, endpoint.ctx_size) == ("big", "m", "K", 9)
    assert endpoint.headers == (("X-A", "b"),)
    assert find_endpoint("big", {"big": endpoint}) is endpoint
    other = find_endpoint("big#n", {"big": endpoint})
    assert other is not None
    assert (other.model, other.url) == ("n", "http://host/v1")
    assert find_endpoint("smollm2", {"big": endpoint}) is None


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "base_url is missing"),
        ({"base_url": "host"}, "needs the address"),
        ({"base_url": "http://h", "modle": "m"}, "Did you mean model"),
        ({"base_url": "http://h", "api_key": "sk"}, "keys do not stand in this file"),
        ({"base_url": "http://h", "kind": "none"}, "kind must be one of"),
        ({"base_url": "http://h", "keyring": 1}, "keyring must be true or false"),
        ({"base_url": "http://h", "headers": {"X": "a\nb"}}, "headers must be"),
        ({"base_url": "http://h", "ctx_size": True}, "ctx_size must be"),
        ("http://h", "must be a table"),
    ],
)
def test_bad_tables(table: object, problem: str) -> None:
    with pytest.raises(EndpointError, match=problem):
        endpoint_of_table("big", table)


def test_the_file_is_believed_where_nobody_else_can_write_it(trusted_folder: Path) -> None:
    config = trusted_folder / "config.toml"
    config.write_text(
        'theme = "x"\n[engines.big]\nbase_url = "http://host/v1"\n[engines."a b"]\nbase_url = "http://h"\n'
    )
    config.chmod(0o600)
    settings = apply_config(Settings(), config)
    assert set(settings.engines) == {"big"}
    assert settings.engines["big"].url == "http://host/v1"
    assert settings.theme == "x"
    assert "[engines.a b] was not used: an engine's name is" in settings.notices[0]
    config.chmod(0o666)
    settings = apply_config(Settings(), config)
    assert settings.engines == {}
    assert settings.theme == "x"
    assert "can be written by others" in settings.notices[0]


def test_each_server_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("LLAMA_CHAT_ENGINE_KEY", "sk-mine")
    monkeypatch.setenv("BIG", "sk-big")
    assert find_key(parse_endpoint("openai:http://host/v1")) == "sk-mine"
    assert find_key(parse_endpoint("openai:https://api.openai.com/v1")) == "sk-openai"
    table = {"base_url": "http://host/v1"}
    assert find_key(endpoint_of_table("big", table)) == ""
    assert find_key(endpoint_of_table("big", {**table, "api_key_env": "BIG"})) == "sk-big"
    with pytest.raises(KeyMissingError, match="should be in NONE, which is empty"):
        find_key(endpoint_of_table("big", {**table, "api_key_env": "NONE"}))
    monkeypatch.setenv("BIG", "sk\nbig")
    with pytest.raises(KeyMissingError, match="no header can hold"):
        find_key(endpoint_of_table("big", {**table, "api_key_env": "BIG"}))
    assert (
        apply_environment(Settings(), {"LLAMA_CHAT_ENGINE_KEY": "k", "LLAMA_CHAT_API_KEY": "k"}).notices == ()
    )


def test_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    endpoint = endpoint_of_table("big", {"base_url": "http://host/v1", "keyring": True})
    stored = {("llama-chat", "big"): "sk-ring"}
    fake = SimpleNamespace(get_password=lambda service, name: stored.get((service, name)))
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert find_key(endpoint) == "sk-ring"
    stored.clear()
    with pytest.raises(KeyMissingError, match="keyring set llama-chat big"):
        find_key(endpoint)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyMissingError, match="needs the Python package keyring"):
        find_key(endpoint)


def test_secrets_leave_short_words_alone() -> None:
    secrets = Secrets(["abcdef", "abc", "", "abcdefgh"])
    assert secrets.hide("abc abcdef abcdefgh") == "abc [hidden] [hidden]"
