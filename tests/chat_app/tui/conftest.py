"""Makes `fake_engine` importable for the screen's tests, and holds what they share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A file that `resolve_model` finds; the fake factory never reads it."""
    path = tmp_path / "tiny-llama.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def make_app(model_file: Path, engine: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """An app on the fake engine: `make_app(theme=..., factory=..., clock=..., prompt=...)`.

    Its engine's thread ends with the test: it would keep the app, and all later ones would be slower for it.
    """
    from chat_app.config.settings import Settings
    from chat_app.tui.app import LlamaChatApp
    from tests.support.fake_engine import factory_of

    # An app freezes what its start made; here that would be what is left of all apps before it.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    made = []

    def make(*, factory: Any = None, **given: Any) -> Any:
        names = ("clock", "prompt", "chat_id", "chooses_chat", "store", "check_model", "find_offer")
        own = {name: given.pop(name) for name in names if name in given}
        own.setdefault("check_model", lambda path, settings: None)  # there is nothing in the fake's file
        settings = Settings(**{"model": str(model_file), **given})
        made.append(LlamaChatApp(settings, open_engine=factory or factory_of(engine), **own))
        return made[-1]

    yield make
    engine.gate.set()
    for app in made:
        app.host.close(5)


@pytest.fixture
def until() -> Callable[..., Any]:
    """`await until(pilot, predicate)`: polls instead of hoping that one pause is enough.

    Only the last look waits for every widget: each of pilot's pauses sends a message to all of them.
    """

    async def wait(pilot: Any, true: Callable[[], object], timeout: float = 30.0) -> None:
        failed = pilot.app._exception_event
        async with asyncio.timeout(timeout):
            while not true() and not failed.is_set():
                await asyncio.sleep(0.01)
        await pilot.pause()

    return wait


@pytest.fixture
def ready(until: Callable[..., Any], drawn: Callable[..., Any]) -> Callable[..., Any]:
    """`await ready(pilot)`: the model is loaded, nothing runs, and all of it is on disk and on the screen."""

    async def wait(pilot: Any) -> None:
        session = pilot.app.chat.session
        # A reply is over for the session before it is on disk, and it is drawn after that.
        await until(pilot, lambda: session.idle and not (session.busy or session.queue))
        await drawn(pilot)

    return wait


@pytest.fixture
def drawn(until: Callable[..., Any]) -> Callable[..., Any]:
    """`await drawn(pilot)`: what the session has told the chat screen so far is drawn."""

    async def wait(pilot: Any) -> None:
        done = asyncio.Event()

        async def mark() -> None:
            done.set()

        pilot.app.chat.work.later(mark)  # drawing is done in order
        await until(pilot, done.is_set)

    return wait


@pytest.fixture
def asked(until: Callable[..., Any]) -> Callable[..., Any]:
    """`await asked(pilot, "why?", ...)`: what stands before a picture. The model is loaded, the cursor does
    not blink, each question is sent and its reply drawn. panel=False: without the live numbers, which have
    pictures of their own."""

    async def wait(pilot: Any, *questions: str, panel: bool = True) -> None:
        chat = pilot.app.chat
        await until(pilot, lambda: chat.query("#prompt") and chat.session.model.info is not None)
        chat.prompt.cursor_blink = False
        views = chat.messages.views
        for question in questions:
            before = len(views())
            chat.prompt.set_text(question)
            await pilot.press("enter")
            await until(pilot, lambda: len(views()) == before + 2 and chat.session.idle)  # noqa: B023
            await until(pilot, lambda: not views()[-1].growing)
        if not panel:
            for widget in chat.query("#panel, #metrics-line"):
                widget.styles.display = "none"

    return wait


@pytest.fixture
def drive(ready: Any, until: Any) -> Callable[[Any], Any]:
    """`drive(pilot)` is a Driver."""
    from tests.support.driver import Driver

    return lambda pilot: Driver(pilot, ready, until)
