"""The key for a server, from where its endpoint says, and a guard that no text shows it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable

from chat_app.config.endpoints import KEY_VARIABLE, OPENAI_VARIABLE, Endpoint
from chat_app.text.errors import SentenceError

KEYRING_SERVICE = "llama-chat"
HIDDEN = "[hidden]"
MIN_SECRET = 4  # shorter ones would tear ordinary words apart


class KeyMissingError(SentenceError):
    """The key is not where the endpoint says; the message says where that is."""


def find_key(endpoint: Endpoint) -> str:
    """The key, "" where the server is asked without one. A key for one server is never sent to another: each
    names its own variable, and a bare URL has KEY_VARIABLE.

    Raises KeyMissingError.
    """
    if endpoint.keyring:
        return _checked(_from_keyring(endpoint.engine), f"the keyring's entry {endpoint.engine!r}")
    variable = endpoint.key_variable or ("" if endpoint.engine else KEY_VARIABLE)
    key = os.environ.get(variable, "") if variable else ""
    if not key and endpoint.key_variable and endpoint.key_variable != OPENAI_VARIABLE:
        raise KeyMissingError(
            f"The key of the engine {endpoint.engine} should be in {variable}, which is empty."
        )
    return _checked(key, f"the variable {variable}")


def _from_keyring(engine: str) -> str:
    try:
        import keyring
    except ImportError:
        raise KeyMissingError(
            f"The key of the engine {engine} is in the keyring, which needs the Python package keyring."
        ) from None
    try:
        key = keyring.get_password(KEYRING_SERVICE, engine)
    except Exception as error:  # noqa: BLE001 - each system's keyring has errors of its own
        raise KeyMissingError(f"The keyring cannot be read ({type(error).__name__}).") from None
    if not key:
        raise KeyMissingError(
            f"The keyring has no key of the engine {engine}. "
            f"`keyring set {KEYRING_SERVICE} {engine}` puts it there."
        )
    return str(key)


def _checked(key: str, where: str) -> str:
    """A key that a header can hold; what else it is, is not told."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise KeyMissingError(f"What {where} holds is no key: it has characters that no header can hold.")
    return key


class Secrets:
    """Texts that are not shown: a server may repeat a wrong key in its error."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = sorted({text for text in texts if len(text) >= MIN_SECRET}, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """`text` with every secret in it replaced."""
        for secret in self._texts:
            text = text.replace(secret, HIDDEN)
        return text


def secrets_of(endpoint: Endpoint, key: str) -> Secrets:
    """All that an endpoint sends to prove who asks."""
    user, password = endpoint.login or ("", "")
    login = base64.b64encode(f"{user}:{password}".encode()).decode() if endpoint.login else ""
    values = [part.partition("=")[2] for part in endpoint.query.split("&")]
    return Secrets([key, password, login, endpoint.query, *values, *(text for _, text in endpoint.headers)])
