"""What `-m` names, and the engine for it: a model of this machine, or a server elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chat_app.config.endpoints import Endpoint, EndpointError, find_endpoint
from chat_app.engines.base import Engine, OnProgress, Source
from chat_app.engines.local import open_local_engine
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.config.settings import Settings


def find_source(name: str, engines: Mapping[str, Endpoint]) -> Source:
    """The server or the file that `name` means: `engines` of config.toml come first, then models.

    Raises EndpointError, ModelNotFound, OSError.
    """
    endpoint = find_endpoint(name, engines)
    if endpoint is not None:
        return endpoint
    from chat_app.models.catalogue import resolve_model

    return resolve_model(name)


def source_here(name: str, engines: Mapping[str, Endpoint]) -> Source:
    """The same where nothing is fetched: raises ValueError with a sentence that says how it can be had."""
    from chat_app.models.catalogue import ModelNotFound

    try:
        return find_source(name, engines)
    except ModelNotFound as error:
        hint = f" /model {clean_line(error.name)} fetches it." if error.can_pull else ""
        raise ValueError(f"{error.problem}{hint}") from None
    except EndpointError as error:
        raise ValueError(str(error)) from None


def open_engine(source: Source, settings: Settings, on_progress: OnProgress) -> Engine:
    """An `OpenEngine` for both. Raises what each raises."""
    if not isinstance(source, Endpoint):
        return open_local_engine(source, settings, on_progress)
    try:
        from chat_app.engines.remote.engine import open_remote_engine
    except ImportError as error:
        if error.name != "httpx2":
            raise
        from chat_app.text.errors import SentenceError

        raise SentenceError(
            "A remote engine needs the Python package httpx2; `pip install llama-chat[remote]` brings it."
        ) from None
    return open_remote_engine(source, on_progress)
