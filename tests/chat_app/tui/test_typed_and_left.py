"""Keys as fast as a script types them: what was sent is in a chat or comes back as the draft."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from textual.events import Key

from tests.support.fake_engine import FakeEngine
from tests.support.luck import SEED

MakeApp = Callable[..., Any]
# A dialog would take the next keys, and Ctrl+C clears the box because that is what it is for.
DISTURBING = ("ctrl+n", "escape", "ctrl+l", "ctrl+o")


def type_at_once(app: Any, *keys: str) -> None:
    """Key presses that arrive together, as from a script or a slow connection: nobody waits between them."""
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else {"enter": "\r", "space": " "}.get(key)))


def kept(app: Any) -> str:
    """All that is on disk: the users' messages of every chat, and the drafts."""
    chats = [one.id for one in app.store.list()]
    said = [message.content for chat in chats for message in app.store.read(chat) if message.role == "user"]
    return "\n".join([*said, *(app.drafts.load(name) for name in ("new", *chats))])


@pytest.mark.parametrize("keys", [("ctrl+q",), ("ctrl+n", "ctrl+q"), ("ctrl+l", "ctrl+q"), ("f1", "ctrl+q")])
@pytest.mark.parametrize("pauses", [0, 1, 3])
async def test_enter_and_quit_at_once(
    make_app: MakeApp, engine: FakeEngine, ready: Any, keys: tuple[str, ...], pauses: int
) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await ready(pilot)
        type_at_once(app, *"hello", "enter")
        for _ in range(pauses):
            await asyncio.sleep(0)
        type_at_once(app, *keys)
        async with asyncio.timeout(20):
            while app.return_code is None:
                await asyncio.sleep(0.01)
    assert "hello" in kept(app)


@pytest.mark.parametrize("round", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_random_keys_between_enter_and_the_end_of_the_reply(
    make_app: MakeApp, engine: FakeEngine, ready: Any, round: int
) -> None:
    rng = Random(f"{SEED} keys {round}")
    engine.delay_s = 0.001
    app = make_app()
    sent: list[str] = []
    async with app.run_test() as pilot:
        await ready(pilot)
        for number in range(40):
            sent.append(f"p{number}.")
            type_at_once(app, *sent[-1], "enter")
            while rng.random() < 0.5:
                await asyncio.sleep(rng.choice([0, 0, 0.003, 0.03, 0.2]))
                type_at_once(app, rng.choice(DISTURBING))
            await asyncio.sleep(rng.choice([0, 0.01, 0.1]))
        type_at_once(app, "ctrl+q")
        async with asyncio.timeout(60):
            while app.return_code is None:
                await asyncio.sleep(0.01)
    found = kept(app)
    assert [text for text in sent if text not in found] == []
