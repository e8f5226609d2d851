"""Who may ask, and how much: keys, hosts, origins, the size of a body and the time it takes.

A page in the user's own browser can reach a server on the loopback address. Two rules keep it out: a request
whose Host is another name than the server's own comes through DNS rebinding, and a request with an Origin
comes from a page, which must have been allowed by name.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from chat_app.openai.responses import error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Answered without a key: whoever watches over the server needs no more.
OPEN_PATHS = frozenset({"/health"})
MAX_BODY_BYTES = 16 << 20
BODY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """api_key None: nobody needs one. origins: pages that may ask. host: the address that is listened on."""

    host: str
    api_key: str | None = None
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = MAX_BODY_BYTES
    body_timeout_s: float = BODY_TIMEOUT_S

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in LOOPBACK


class Guard:
    """The application behind a policy (ASGI)."""

    def __init__(self, app: App, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or read the whole body and pass the request on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        refusal = self._refusal(scope, headers, origin)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if origin is not None:
            send = _allowing(send, origin)
            if scope["method"] == "OPTIONS":
                await Response(status_code=204)(scope, receive, send)
                return
        try:
            body = await asyncio.wait_for(self._body(receive), self._policy.body_timeout_s)
        except TimeoutError:
            await _refuse(408, "the request's body did not come in time", "timeout")(scope, receive, send)
            return
        except _TooLargeError:
            limit = self._policy.max_body_bytes
            text = f"the request's body is larger than {limit:,} bytes"
            await _refuse(413, text, "request_too_large")(scope, receive, send)
            return
        await self._app(scope, _replaying(body, receive), send)

    def _refusal(self, scope: Scope, headers: Headers, origin: str | None) -> Response | None:
        policy = self._policy
        if policy.is_local and _host_name(headers.get("host", "")) not in LOOPBACK:
            return _refuse(403, "this server answers to localhost alone", "forbidden_host")
        if origin is not None and origin not in policy.origins:
            text = "pages may not ask this server; --cors ORIGIN allows one"
            return _refuse(403, text, "forbidden_origin")
        if scope["method"] == "OPTIONS" or scope["path"] in OPEN_PATHS or policy.api_key is None:
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if secrets.compare_digest(given.encode(), policy.api_key.encode()):
            return None
        text = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
        return _refuse(401, text, "invalid_api_key")

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._policy.max_body_bytes:
                raise _TooLargeError
            more = message.get("more_body", False)
        return b"".join(parts)


class _TooLargeError(Exception):
    pass


def _host_name(host: str) -> str:
    """ "localhost:8080" -> "localhost", "[::1]:8080" -> "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _refuse(status: int, text: str, code: str) -> Response:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    return JSONResponse(error_body(text, kind, code), status_code=status)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes: the hang-up of the client."""
    sent = False

    async def next_message() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _allowing(send: Send, origin: str) -> Send:
    """Tell the browser that this page may read the answer."""
    extra = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"vary", b"origin"),
    ]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return with_headers
