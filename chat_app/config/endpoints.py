"""Engines elsewhere: servers that speak OpenAI's API, as `-m` and config.toml name them.

    llama-chat -m openai:http://host:8000/v1#model

    [engines.big]
    base_url = "https://host/v1"
    model = "qwen3-32b"
    api_key_env = "BIG_KEY"     # or: keyring = true
    headers = { X-Team = "words" }

An endpoint holds no key, only where one is found. What may hold one (user, password, query, headers) is kept
out of its `repr`, its label and its URL, so that none of it reaches a message, a transcript or a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from chat_app.text.errors import SentenceError, nearest
from chat_app.text.sanitize import clean_line

PREFIX = "openai:"
# The key for an engine that is given by its URL alone.
KEY_VARIABLE = "LLAMA_CHAT_ENGINE_KEY"
OPENAI_HOST, OPENAI_VARIABLE = "api.openai.com", "OPENAI_API_KEY"
# What a server is told and can do beside OpenAI's own fields; it is asked which one it is (see `dialects`).
KINDS = ("llama-chat", "llama.cpp", "vllm", "ollama", "lm-studio", "openai", "other")
MAX_CONTEXT = 1 << 31

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LOGIN = re.compile(r"openai:\S*(//[^/\s]*@|\?)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class EndpointError(SentenceError):
    """A text or a table that names no usable server; the message says what would."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model of it.

    engine: its name in config.toml, "" for one given by its URL. url: the base of the API, such as
    http://host:8000/v1. model: "" means the only one that the server has. key_variable: the environment
    variable that holds the key; keyring: the system's keyring holds it. kind: one of KINDS, "" where the
    server is asked. ctx_size: tokens, 0 where the server is asked. logprobs: whether it shall tell them.
    """

    url: str
    model: str = ""
    engine: str = ""
    key_variable: str = ""
    keyring: bool = False
    kind: str = ""
    ctx_size: int = 0
    logprobs: bool = True
    login: tuple[str, str] | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """The host, and the port where it is no usual one: `host:8000`."""
        parts = urlsplit(self.url)
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        usual = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
        return name if usual else f"{name}:{parts.port}"

    @property
    def name(self) -> str:
        """What a chat is called by that is held with it: its model or its name, never a part of its URL."""
        return self.model or self.engine or "a server"

    @property
    def is_private(self) -> bool:
        """Whether nobody between here and there can read what is sent."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or parts.hostname in _LOOPBACK


def parse_endpoint(text: str) -> Endpoint:
    """The server that `http://host:8000/v1#model` names; PREFIX may stand before it. Raises EndpointError,
    whose message repeats nothing that could be a password."""
    address, _, model = text.removeprefix(PREFIX).strip().partition("#")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise EndpointError(
            f"{PREFIX} needs the address of a server, such as {PREFIX}http://localhost:8080/v1#model"
        )
    return Endpoint(
        url=_base(parts, host, port),
        model=clean_line(unquote(model)),
        key_variable=OPENAI_VARIABLE if host == OPENAI_HOST else "",
        login=(unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        query=parts.query,
    )


def _base(parts: SplitResult, host: str, port: int | None) -> str:
    """The URL without what may be secret; a server named without a path has the API at /v1."""
    place = f"[{host}]" if ":" in host else host
    place = place if port is None else f"{place}:{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/") or "/v1", "", ""))


def find_endpoint(name: str, engines: Mapping[str, Endpoint]) -> Endpoint | None:
    """The server that `-m` or `--engine` means: PREFIX and a URL, or an engine of config.toml, perhaps with
    another model (`big#qwen3-8b`); None where `name` names neither. Raises EndpointError."""
    if name.startswith(PREFIX):
        return parse_endpoint(name)
    engine, _, model = name.partition("#")
    endpoint = engines.get(engine)
    return replace(endpoint, model=model) if endpoint is not None and model else endpoint


def find_endpoints(names: str, engines: Mapping[str, Endpoint], *, must: bool = False) -> list[Endpoint]:
    """The servers that share a work: names and URLs with commas between, `openai:` before a URL or not. None
    where there is no server among them and none `must` be. Raises EndpointError."""
    parts = [name.strip() for name in names.split(",") if name.strip()]
    parts = [PREFIX + name if name.startswith(("http://", "https://")) else name for name in parts]
    found = [find_endpoint(name, engines) for name in parts]
    known = [endpoint for endpoint in found if endpoint is not None]
    if must and (len(known) < len(parts) or not parts):
        unknown = next((name for name, endpoint in zip(parts, found, strict=True) if endpoint is None), names)
        has = f" Engines: {', '.join(engines)}." if engines else ""
        problem = f"{clean_line(unknown)!r} is neither an engine of the config nor a URL."
        raise EndpointError(f"{problem}{nearest(unknown, engines)}{has}")
    return known if len(known) == len(parts) else []


def model_label(name: str) -> str:
    """What a chat calls the model that `-m` names: a file's name, an engine's; never a part of a URL."""
    if not name.startswith(PREFIX):
        return Path(name).name
    try:
        return parse_endpoint(name).name
    except EndpointError:
        return "a server"


def holds_login(text: str) -> bool:
    """Whether a line that was typed names a server together with a password."""
    return _LOGIN.search(text) is not None


def endpoint_of_table(engine: str, table: Any) -> Endpoint:
    """An `[engines.NAME]` of config.toml. Raises EndpointError with a phrase that names the key."""
    if not _NAME.fullmatch(engine):
        raise EndpointError("an engine's name is letters, digits, dots, dashes")
    if not isinstance(table, dict):
        raise EndpointError(f"it must be a table, as in [engines.{engine}]")
    unknown = next((key for key in table if key not in _KEYS), None)
    if unknown is not None:
        if unknown in ("api_key", "key", "token"):
            raise EndpointError(f"{unknown}: keys do not stand in this file; api_key_env names a variable")
        raise EndpointError(f"there is no key {unknown!r}.{nearest(unknown, _KEYS)}")
    values = {key: _value(key, value) for key, value in table.items()}
    if "base_url" not in values:
        raise EndpointError("base_url is missing")
    endpoint = parse_endpoint(values.pop("base_url"))
    fields = {_KEYS[key][0]: value for key, value in values.items()}
    return replace(endpoint, engine=engine, **fields)


def _value(key: str, value: Any) -> Any:
    _, expected, read = _KEYS[key]
    try:
        return read(value)
    except (TypeError, ValueError, AttributeError):
        raise EndpointError(f"{key} must be {expected}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _size(value: Any) -> int:
    if type(value) is not int or not 0 < value < MAX_CONTEXT:
        raise ValueError
    return value


def _kind(value: Any) -> str:
    return KINDS[KINDS.index(_text(value))]


def _headers(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple((_text(name), _text(text)) for name, text in value.items())
    if not all(_HEADER.fullmatch(name) and text.isprintable() and text.isascii() for name, text in pairs):
        raise ValueError
    return pairs


# Key of the table: the endpoint's field, what it must be, how it is read.
_KEYS: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "base_url": ("url", "the address of a server", _text),
    "model": ("model", "a text", _text),
    "api_key_env": ("key_variable", "the name of an environment variable", _text),
    "keyring": ("keyring", "true or false", _truth),
    "headers": ("headers", "a table of texts", _headers),
    "kind": ("kind", f"one of {', '.join(KINDS)}", _kind),
    "ctx_size": ("ctx_size", "a number of tokens", _size),
    "logprobs": ("logprobs", "true or false", _truth),
}
