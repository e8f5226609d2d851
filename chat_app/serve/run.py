"""Running the server until it is told to stop, alone or beside the panel that watches it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from chat_app.serve.application import Service
from chat_app.serve.guard import Guard, Policy
from chat_app.serve.worker import Worker
from chat_app.text.errors import UsageError
from llama_core.engine.text import TextEngine

MAX_CONNECTIONS = 1024
KEEP_ALIVE_S = 30
# A request under way gets this long to end when the server stops.
SHUTDOWN_S = 5
START_TIMEOUT_S = 30.0


def serve(
    engine: TextEngine,
    worker: Worker,
    policy: Policy,
    *,
    port: int,
    model_name: str,
    panel: Callable[[str], None] | None = None,
) -> int:
    """Serve until Ctrl+C or SIGTERM; with a panel until `panel(address)` returns. Returns the exit code.

    Raises UsageError where the address cannot be listened on.
    """
    with _listening(policy.host, port) as sock:
        server = make_server(engine, worker, policy, model_name)
        if panel is None:
            server.run(sockets=[sock])
            return 0
        with running(server, sock):
            panel(f"http://{policy.host}:{sock.getsockname()[1]}/v1")
        return 0


def make_server(engine: TextEngine, worker: Worker, policy: Policy, model_name: str) -> uvicorn.Server:
    """The server, not yet running. No access log: paths and prompts are nobody's business."""
    service = Service(engine, worker, model_name, engine.ctx_size)
    config = uvicorn.Config(
        Guard(service.application(), policy),
        access_log=False,
        log_level="warning",
        lifespan="on",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def running(server: uvicorn.Server, sock: socket.socket) -> Iterator[None]:
    """The server on a thread of its own; it is ready when the block begins and has ended behind it."""
    ready = threading.Event()
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = started  # type: ignore[method-assign]  # uvicorn tells nobody when it listens
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="serve-http", daemon=True)
    thread.start()
    if not ready.wait(START_TIMEOUT_S):
        raise RuntimeError("the server did not start")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(SHUTDOWN_S + 5)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise UsageError(f"{host} port {port} cannot be listened on: {error.strerror}") from None
        sock.listen(MAX_CONNECTIONS)
        yield sock
