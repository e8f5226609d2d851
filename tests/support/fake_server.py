"""A server of OpenAI's API in a few lines: what it answers is a script, and what it was asked is kept."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer. words: the pieces of its text; wait_s before each; cut: the connection ends behind them;
    done: `[DONE]` comes at the end; reason "": no piece says why it ended; gate: it stands still behind the
    first piece until this is set."""

    words: Sequence[str] = ("Hello", " there", ".")
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: Any = None
    wait_s: float = 0.0
    cut: bool = False
    done: bool = True
    gate: threading.Event | None = None
    logprobs: Sequence[dict[str, Any]] = ()
    more: dict[str, Any] = field(default_factory=dict)  # beside the usage in the last piece
    reason: str = "stop"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


Script = Callable[[Asked], Reply]


class FakeServer:
    """`url` is its API's base. `script` answers each completion; `models` are the entries of /v1/models."""

    def __init__(self, script: Script = lambda asked: Reply(), models: Sequence[dict[str, Any]] = ()) -> None:
        self.script = script
        self.models = list(models) or [{"id": "fake", "object": "model", "owned_by": "nobody"}]
        self.asked: list[Asked] = []
        self.gone = 0  # clients that hung up while they were answered
        self._sockets: set[socket.socket] = set()
        self._dead = False
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def kill(self) -> None:
        """End at once, with every connection, as a process does that is killed."""
        if self._dead:
            return
        self._dead = True
        self._http.shutdown()
        self._http.server_close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _handler(fake) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                fake._sockets.add(self.request)
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                super().setup()

            def finish(self) -> None:
                fake._sockets.discard(self.request)
                with contextlib.suppress(OSError):
                    super().finish()

            def log_message(self, *args: Any) -> None: ...

            def do_GET(self) -> None:
                if self.path.split("?")[0] == "/v1/models":
                    fake.asked.append(Asked(self.path, {}, dict(self.headers)))
                    self._send(200, {"object": "list", "data": fake.models})
                else:
                    self._send(404, {"error": {"message": "no such path"}})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(self.path, body, dict(self.headers))
                fake.asked.append(asked)
                reply = fake.script(asked)
                try:
                    if reply.status != 200:
                        self._send(reply.status, {"error": reply.error or {"message": "no"}}, reply.headers)
                    elif body.get("stream"):
                        self._stream(reply)
                    else:
                        time.sleep(reply.wait_s)
                        if reply.cut:
                            self.request.shutdown(socket.SHUT_RDWR)
                        else:
                            self._send(200, _whole(asked, reply), reply.headers)
                except OSError:
                    fake.gone += 1
                    self.close_connection = True

            def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, reply: Reply) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                for piece in _pieces(reply):
                    self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
                if reply.done and not reply.cut:
                    self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

        return Handler


def _pieces(reply: Reply) -> Iterator[dict[str, Any]]:
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    for at, word in enumerate(reply.words):
        time.sleep(reply.wait_s)
        if at == 1 and reply.gate is not None:
            while not reply.gate.wait(0.01):
                yield {"choices": []}  # a client that has gone is noticed when one writes to it
        logprobs = {"content": [reply.logprobs[at]]} if reply.logprobs else None
        yield {"choices": [{"index": 0, "delta": {"content": word}, "logprobs": logprobs}]}
    if not reply.cut:
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": reply.reason or None}]}
        yield {"choices": [], "usage": _usage(reply), **reply.more}


def _usage(reply: Reply) -> dict[str, Any]:
    n = len(reply.words)
    cached = {"cached_tokens": 4}
    return {
        "prompt_tokens": 11,
        "completion_tokens": n,
        "total_tokens": 11 + n,
        "prompt_tokens_details": cached,
    }


def _whole(asked: Asked, reply: Reply) -> dict[str, Any]:
    text = "".join(reply.words)
    choice: dict[str, Any] = {"index": 0, "finish_reason": reply.reason}
    choice |= (
        {"message": {"role": "assistant", "content": text}} if "messages" in asked.body else {"text": text}
    )
    return {"id": "x", "model": asked.body.get("model"), "choices": [choice], "usage": _usage(reply)}


@contextlib.contextmanager
def fake_server(script: Script = lambda asked: Reply(), **options: Any) -> Iterator[FakeServer]:
    """A server for the length of a block."""
    server = FakeServer(script, **options)
    try:
        yield server
    finally:
        server.kill()
