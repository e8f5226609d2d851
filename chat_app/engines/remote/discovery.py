"""What a server says of itself before anything is asked: its models, its kind, the size of its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat_app.config.endpoints import Endpoint
from chat_app.engines.remote.client import Client, ServerError
from chat_app.engines.remote.dialects import Dialect, context_of, dialect_of
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line

MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Server:
    """A server and the model that is asked there. ctx_size: tokens, 0 where it is not known."""

    model: str
    dialect: Dialect
    ctx_size: int


async def discover(client: Client) -> Server:
    """Ask a server who it is. Raises SentenceError where it does not answer, or has several models of which
    the endpoint names none; the sentence names the host."""
    endpoint = client.endpoint
    try:
        models = await client.models()
    except ServerError as error:
        if not (error.is_refusal and endpoint.model):  # some have no list
            raise SentenceError(f"{endpoint.host}: {error}") from None
        models = []
    model = endpoint.model or _only(endpoint, models)
    entry = next((one for one in models if one.get("id") == model), {})
    return Server(model, dialect_of(models, endpoint.kind), endpoint.ctx_size or context_of(entry))


def _only(endpoint: Endpoint, models: Sequence[Mapping[str, Any]]) -> str:
    names = [str(one["id"]) for one in models if isinstance(one.get("id"), str)]
    if len(names) == 1:
        return names[0]
    has = f"It has {', '.join(map(clean_line, names[:MAX_LISTED]))}." if names else "It tells of none."
    raise SentenceError(f"{endpoint.host}: name one of the server's models behind a #. {has}")
