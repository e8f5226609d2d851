"""An engine elsewhere: no token ids, no logits, no cache of its own. What it cannot do is said, not tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.config.settings import Settings
from chat_app.engines.base import Capabilities, EngineInfo, Prompt, PromptRequest
from llama_core.events import Event, Finished, TextDelta, Timings
from tests.support.stage import Stage


class RemoteEngine:
    """A server that answers with text alone."""

    tokens = None

    def __init__(self) -> None:
        nothing = Capabilities(tokens=False, logits=False, reset=False, continues=False, raw=False)
        self.info = EngineInfo("remote", None, "a server", 0, 8192, 0, True, capabilities=nothing)
        self.asked: list[list[dict[str, str]]] = []

    def prepare(self, request: PromptRequest) -> Prompt:
        return Prompt(request.turns, None)

    def stream(self, prompt: Prompt, params: Any, *, cancelled: Callable[[], bool]) -> Iterator[Event]:
        self.asked.append([turn.to_message() for turn in prompt.turns])
        yield TextDelta("from afar")
        yield Finished("stop", Timings(), 0, ())

    def reset(self) -> None:
        raise AssertionError("nobody asks in vain")

    steps = None

    def memory(self) -> None:
        return None

    def close(self) -> None: ...


async def test_a_chat_with_an_engine_elsewhere(tmp_path: Path) -> None:
    engine = RemoteEngine()
    stage = Stage(tmp_path, engine, Settings())  # type: ignore[arg-type]
    await stage.load()
    reply = await stage.say("hello")
    assert stage.on_disk()[-1].content == reply.content == "from afar"
    assert engine.asked == [[{"role": "user", "content": "hello"}]]
    stage.session.reset_cache()
    await stage.session.branches.continue_reply(reply.id)
    assert "keeps no cache" in stage.view.notes[-2]
    assert "cannot go on with a reply" in stage.view.notes[-1]
    with pytest.raises(ValueError, match="no recorded tokens"):
        await stage.session.branches.reply_tokens(reply.id)
    with pytest.raises(LookupError, match="shows no tokens"):
        await stage.session.branches.split("text")
    stage.session.change_settings(Settings(ctx_size=512))  # there is no file to load anew
    assert stage.session.model.loading is None
    await asyncio.to_thread(stage.host.close, 20)
