"""A prompt whose Enter was taken is in a chat, in the prompt box, or in the draft, whatever comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chat_app.config.settings import Settings, set_parameter
from tests.support.fake_engine import FakeEngine
from tests.support.luck import SEED
from tests.support.stage import Stage

PROMPTS = 300


class RandomUser:
    """Sends numbered prompts and does other things at random moments."""

    def __init__(self, stage: Stage, rng: Random) -> None:
        self.stage = stage
        self.rng = rng
        self.sent: list[str] = []
        self.chats = [stage.session.chat.id]

    def send(self) -> None:
        text = f"prompt {len(self.sent)}."
        self.sent.append(text)
        self.stage.session.submit(text)

    def disturb(self) -> None:
        session, stage = self.stage.session, self.stage
        path = session.path()
        acts: list[Callable[[], object]] = [
            session.stop,
            session.take_back_queue,
            session.reset_cache,
            lambda: stage.spawn(session.new_chat()),
            lambda: stage.spawn(session.open_chat(self.rng.choice(self.chats))),
            lambda: session.load_model(Path("model.gguf")),
            lambda: session.change_settings(
                set_parameter(session.settings, "num_ctx", str(self.rng.choice([64, 512, 2048])))
            ),
            lambda: setattr(stage.engine, "script", lambda turns: ["some ", RuntimeError("boom")]),
            lambda: setattr(stage.engine, "script", lambda turns: "a word or two"),
            lambda: setattr(stage.view, "agree", not stage.view.agree),
        ]
        if path:
            acts.append(lambda: stage.spawn(session.branches.regenerate(path[-1].id)))
            acts.append(lambda: stage.spawn(session.branches.continue_reply(path[-1].id)))
            acts.append(lambda: session.branches.branch(self.rng.choice(path).id))
        self.rng.choice(acts)()

    async def wait(self) -> None:
        """No time at all, or enough for some steps of the engine and the disk."""
        for _ in range(self.rng.choice([0, 0, 1, 3, 10])):
            await self.stage.session.take_news()
            await asyncio.sleep(self.rng.choice([0, 0, 0.001]))
        if self.stage.session.chat.id not in self.chats and self.stage.path():
            self.chats.append(self.stage.session.chat.id)

    def everything(self) -> str:
        """All that is on disk, went back to the box, or waits."""
        stored = [
            message.content
            for chat in self.stage.store.list()
            for message in self.stage.store.read(chat.id)
            if message.role == "user"
        ]
        return "\n".join((*stored, *self.stage.view.returned, *self.stage.session.unsent))


@pytest.mark.parametrize("round", range(3))
async def test_random_acts_lose_no_prompt(tmp_path: Path, engine: FakeEngine, round: int) -> None:
    rng = Random(f"{SEED} {round}")
    stage = Stage(tmp_path, engine, Settings())
    await stage.load()
    user = RandomUser(stage, rng)
    for _ in range(PROMPTS // 3):
        user.send()
        await user.wait()
        while rng.random() < 0.6:
            user.disturb()
            await user.wait()
    stage.session.save_now()
    found = user.everything()
    assert [text for text in user.sent if text not in found] == []
    await asyncio.to_thread(stage.host.close, 20)


@pytest.mark.parametrize("left_after", [0, 1, 2, 5])
async def test_what_is_sent_and_left_at_once_is_on_disk_or_in_the_draft(
    stage: Stage, left_after: int
) -> None:
    stage.session.submit("hello")
    for _ in range(left_after):
        await asyncio.sleep(0)
    draft = stage.session.unsent
    stage.session.save_now()
    stored = stage.on_disk() if stage.store.list() else []
    assert "hello" in [*draft, *(message.content for message in stored)]
    stage.session.submit("too late")
    assert stage.session.unsent[-1] == "too late"


async def test_a_change_of_chats_waits_for_what_is_being_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt was on its way to disk when the chat was left: it belongs to that chat."""
    began, go_on = asyncio.Event(), asyncio.Event()
    saver, append = stage.session.saver, stage.session.saver.append

    async def slowly(message: Any) -> bool:
        began.set()
        await go_on.wait()
        return await append(message)

    monkeypatch.setattr(saver, "append", slowly)
    old = stage.session.chat.id
    stage.session.submit("hello")
    await began.wait()
    leaving = asyncio.ensure_future(stage.session.new_chat())
    await asyncio.sleep(0.01)
    assert stage.session.unsent == ["hello"]
    go_on.set()
    await leaving
    assert [message.content for message in stage.store.read(old)][:1] == ["hello"]
    assert stage.path() == []
    assert stage.session.unsent == stage.view.returned == []
