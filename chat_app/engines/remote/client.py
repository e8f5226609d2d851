"""Asking a server: one request, whole or as a stream of its pieces, and what went wrong as a sentence.

httpx2 is imported with this module and no other, so that a chat on this machine does without it. A redirect
is not followed: the key would go where nobody sent it. No message holds a key or the server's address.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

from chat_app.config.endpoints import Endpoint
from chat_app.engines.remote.keys import find_key, secrets_of
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line

CONNECT_S = 10.0
# A server may compute a long prompt before its first byte.
READ_S = 600.0
MAX_ANSWER_BYTES = 256 << 20
MAX_EVENT_BYTES = 16 << 20
MAX_MESSAGE = 600
MAX_WAIT_S = 120.0
ENDED = "The connection ended in the middle of the reply."
_BUSY = frozenset({408, 409, 425, 429})
_LASTING = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # no time mends these
_REFUSED = frozenset({400, 404, 413, 422})


class ServerError(SentenceError):
    """The server did not answer, or with an error. status: of HTTP, 0 where there was none. code, param: in
    OpenAI's words, "" where it has none. retry_s: seconds it asks to wait, None where it does not say.
    reached: whether the request came to it."""

    def __init__(
        self,
        message: str,
        status: int = 0,
        *,
        code: str = "",
        param: str = "",
        kind: str = "",
        retry_s: float | None = None,
        reached: bool = True,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.kind, self.retry_s = status, code, param, kind, retry_s
        self.reached = reached

    @property
    def is_busy(self) -> bool:
        """Whether it would answer with less to do."""
        return self.status in _BUSY and self.code not in _LASTING

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered later."""
        return self.code not in _LASTING and (self.status == 0 or self.is_busy or self.status >= 500)

    @property
    def is_refusal(self) -> bool:
        """Whether it is the request that cannot be answered, whoever is asked and when."""
        return self.status in _REFUSED


class Client:
    """Asks one server; `close` it at the end. Used within one event loop. Raises KeyMissingError."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        key = find_key(endpoint)
        self._secrets = secrets_of(endpoint, key)
        headers = dict(endpoint.headers)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.sends_key = bool(headers or endpoint.login)
        self._http = httpx2.AsyncClient(
            headers=headers,
            auth=endpoint.login,
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def close(self) -> None:
        """Let all connections go."""
        await self._http.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models. Raises ServerError."""
        found = (await self.get("/models")).get("data")
        if not isinstance(found, list):
            raise ServerError("The server's list of models is none; is its address the one of an OpenAI API?")
        return [one for one in found if isinstance(one, dict)]

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path of the API. Raises ServerError."""
        return await self._whole(self._request("GET", path))

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that answers `body`. Raises ServerError."""
        return await self._whole(self._request("POST", path, body))

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The pieces of a streamed answer, as they come.

        Raises ServerError, also where the stream ends without `[DONE]` or an end that its last piece tells.
        """
        ended = False
        async with self._sent(self._request("POST", path, body)) as response:
            async for data in _events(response.aiter_bytes()):
                if data == b"[DONE]":
                    return
                piece = _object(data)
                if "error" in piece:
                    raise self._error(response, data)
                ended = ended or _tells_end(piece)
                yield piece
        if not ended:
            raise ServerError(ENDED)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Request:
        query = f"?{self.endpoint.query}" if self.endpoint.query else ""
        url = f"{self.endpoint.url}{path}{query}"
        return self._http.build_request(method, url, json=body if body is None else dict(body))

    async def _whole(self, request: httpx2.Request) -> dict[str, Any]:
        async with self._sent(request) as response:
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > MAX_ANSWER_BYTES:
                    raise ServerError(f"The server's answer is longer than {MAX_ANSWER_BYTES >> 20} MiB.")
            return _object(bytes(data))

    @contextlib.asynccontextmanager
    async def _sent(self, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        """The response to a request, its body yet to be read. Raises ServerError."""
        try:
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise self._error(response, await _beginning(response))
                yield response
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            reached = not isinstance(error, httpx2.ConnectTimeout)
            what = "be waited for any longer" if reached else "be reached"
            raise ServerError(f"The server cannot {what}: it does not answer.", reached=reached) from None
        except httpx2.ConnectError as error:
            raise ServerError(f"The server cannot be reached: {self._why(error)}.", reached=False) from None
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise ServerError(f"The connection to the server broke: {self._why(error)}.") from None

    def _why(self, error: Exception) -> str:
        """The system's words for it, without addresses."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.strerror:  # asyncio's own words hold the address
                number = cause.errno or 0  # negative: of the name service, in words of its own
                return os.strerror(number) if number > 0 else cause.strerror
            cause = cause.__cause__ or cause.__context__
        return self._inert(str(error)) or type(error).__name__

    def _error(self, response: httpx2.Response, data: bytes) -> ServerError:
        """What an answer that is none says, in OpenAI's form or any other."""
        status = response.status_code if response.status_code != 200 else 500  # an error within a stream
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            said = None
        found = said.get("error", said) if isinstance(said, dict) else None
        found = found if isinstance(found, dict) else {"message": found}
        message = found.get("message") or found.get("detail") or response.reason_phrase
        text = self._inert(message if isinstance(message, str) else json.dumps(message))
        return ServerError(
            f"The server answers: {text or 'nothing'} ({status})",
            status,
            code=self._inert(str(found.get("code") or "")),
            param=self._inert(str(found.get("param") or "")),
            kind=self._inert(str(found.get("type") or "")),
            retry_s=_retry_after(response.headers.get("retry-after")),
        )

    def _inert(self, text: str) -> str:
        """A server's words for a message: one line, no secret, not our address."""
        text = self._secrets.hide(text).replace(self.endpoint.url, "its address")
        return clean_line(text, MAX_MESSAGE)


async def _beginning(response: httpx2.Response, limit: int = 1 << 16) -> bytes:
    data = bytearray()
    async for part in response.aiter_bytes():
        data += part
        if len(data) > limit:
            break
    return bytes(data[:limit])


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ServerError("The server's answer is no JSON object; is its address the one of an OpenAI API?")
    return found


def _tells_end(piece: Mapping[str, Any]) -> bool:
    """Whether a piece of a stream says why the reply ended; some servers send no `[DONE]` behind it."""
    choices = piece.get("choices")
    return isinstance(choices, list) and any(
        isinstance(one, dict) and isinstance(one.get("finish_reason"), str) for one in choices
    )


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events. Source: WHATWG HTML, 9.2.6; of its fields OpenAI uses `data` alone."""
    rest = b""
    data: list[bytes] = []
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in (one.removesuffix(b"\r") for one in lines):
            if not line and data:
                yield b"\n".join(data)
                data.clear()
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
        if len(rest) + sum(map(len, data)) > MAX_EVENT_BYTES:
            raise ServerError(f"A piece of the server's answer is longer than {MAX_EVENT_BYTES >> 20} MiB.")
    if data:
        yield b"\n".join(data)


def _retry_after(text: str | None) -> float | None:
    """Seconds, from a number or a date (RFC 9110, 10.2.3), within bounds; None where it is neither."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_WAIT_S) if seconds == seconds else None
