"""A chat with a server: streaming, stop, branches, a broken stream, the inspector, what is written down."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chat_app.chat.comparing.continuations import Continuations
from chat_app.chat.recall import recall
from chat_app.chat.token_scores import ScoredText, scored_text
from chat_app.config.endpoints import parse_endpoint
from chat_app.config.settings import Settings
from chat_app.engines.sources import open_engine
from tests.support.fake_server import FakeServer, Reply, fake_server
from tests.support.stage import Stage

SECRET = "pass-word-of-mine"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    models = [{"id": "qwen", "owned_by": "vllm", "max_model_len": 4096}]
    with fake_server(models=models) as one:
        yield one


@pytest.fixture
async def remote(tmp_path: Path, server: FakeServer) -> AsyncIterator[Stage]:
    address = server.url.replace("http://", f"openai:http://me:{SECRET}@")
    stage = Stage(tmp_path, None, Settings(model=address), open_engine)
    stage.session.load_model(parse_endpoint(address))
    await stage.until(lambda: stage.session.model.info or stage.view.load_failures)
    yield stage
    await asyncio.to_thread(stage.host.close, 20)
    stage.session.chat.close()


async def test_it_talks_branches_and_remembers_no_address(remote: Stage, server: FakeServer) -> None:
    reply = await remote.say("Hello")
    assert reply.content == "Hello there."
    server.script = lambda asked: Reply(words=("Hi", "."))
    await remote.session.branches.regenerate(reply.id)
    await remote.until(remote.idle)
    assert remote.words() == ["Hello", "Hi."]
    await remote.say("And?")
    assert [turn["content"] for turn in server.asked[-1].body["messages"]] == ["Hello", "Hi.", "And?"]
    shot = remote.session.metrics.snapshot()
    assert (shot.context_limit, shot.context_n, shot.prefill_total_n, shot.cached_n) == (4096, 13, 7, 4)
    assert shot.ttft_s
    assert "memory" in shot.untold
    kept = remote.on_disk()[-1].x
    assert kept["ids"] == []
    assert kept["model"] == "qwen"
    assert kept["timings"]["predicted_n"] == 2
    written = b"".join(
        file.read_bytes() for file in Path(remote.store.database.path).parent.glob("chats.db*")
    )
    port = server.url.split(":")[2].split("/")[0]
    for secret in (SECRET, "127.0.0.1", port):
        assert secret.encode() not in written


async def test_a_chat_with_a_server_is_not_sent_there_unasked(remote: Stage) -> None:
    await remote.say("Hello")
    held = remote.store.read(remote.session.chat.id)
    here = recall(held, Settings(model="smollm2"))
    assert here.model == "smollm2"
    assert "was held with qwen on a server. It goes on with smollm2 here" in here.notices[-1]
    assert recall(held, remote.session.settings).notices == ()


async def test_a_broken_stream_is_kept_and_goes_on(remote: Stage, server: FakeServer) -> None:
    server.script = lambda asked: Reply(cut=True)
    reply = await remote.say("Hello")
    assert (reply.content, reply.status) == ("Hello there.", "stopped")
    assert "ended in the middle" in remote.view.notes[-1]
    server.script = lambda asked: Reply(words=(" And", " more."))
    await remote.session.branches.continue_reply(reply.id)
    await remote.until(remote.idle)
    assert remote.path()[-1].content == "Hello there. And more."
    assert remote.path()[-1].status == "complete"
    assert server.asked[-1].body["messages"][-1] == {"role": "assistant", "content": "Hello there."}


async def test_stopping_keeps_what_came(remote: Stage, server: FakeServer) -> None:
    gate = threading.Event()
    server.script = lambda asked: Reply(gate=gate)
    remote.session.submit("Hello")
    await remote.until(lambda: remote.view.texts)
    remote.session.stop()
    await remote.until(remote.idle)
    assert (remote.path()[-1].content, remote.path()[-1].status) == ("Hello", "stopped")
    gate.set()


async def test_looking_at_tokens_and_taking_another(remote: Stage, server: FakeServer) -> None:
    def entry(word: str, other: str) -> dict[str, object]:
        top = [{"token": word, "logprob": -0.2}, {"token": other, "logprob": -1.7}]
        return {"token": word, "logprob": -0.2, "top_logprobs": top}

    entries = [entry("Red", "Blue"), entry(" sky", " sea")]
    server.script = lambda asked: Reply(words=("Red", " sky"), logprobs=entries)
    reply = await remote.say("Colour?")
    taken = await remote.session.branches.reply_tokens(reply.id)
    assert [token.text for token in taken.tokens] == ["Red", " sky"]
    found = await remote.session.branches.look_at(taken, 1)
    assert (found.rank, [one.text for one in found.top]) == (1, [" sky", " sea"])
    server.script = lambda asked: Reply(words=(" shines",))
    await remote.session.branches.take_alternative(taken, 1, found.top[1].id)
    await remote.until(remote.idle)
    branch = remote.path()[-1]
    assert branch.content == "Red sea shines"
    # The tokens are counted on: of "sea", which was chosen by hand, nobody told how likely it was.
    assert [(one.text, one.at) for one in scored_text(branch)] == [("Red", 0), (" sea", 1), (" shines", 2)]
    assert [math.isnan(one.logprob) for one in scored_text(branch)] == [False, True, True]
    assert len(remote.session.conversation.siblings(remote.path()[-1].id)) == 2
    work = asyncio.ensure_future(remote.session.branches.take_alternative(taken, 1, found.top[1].id))
    await asyncio.sleep(0)
    assert remote.session.stop()
    await work
    kept = remote.store.read(remote.session.chat.id).path()[-1]
    assert (kept.content, kept.status) == ("Red sea", "stopped")


async def test_a_reply_that_went_on_is_looked_at_as_one(remote: Stage, server: FakeServer) -> None:
    """Its tokens are counted through; once the chat was left, what the server told of others is forgotten."""

    def told(*words: str) -> list[dict[str, object]]:
        return [
            {"token": word, "logprob": -0.2, "top_logprobs": [{"token": word, "logprob": -0.2}]}
            for word in words
        ]

    server.script = lambda asked: Reply(words=("Red", " sky"), logprobs=told("Red", " sky"), cut=True)
    reply = await remote.say("Colour?")
    server.script = lambda asked: Reply(words=(" at", " night"), logprobs=told(" at", " night"))
    await remote.session.branches.continue_reply(reply.id)
    await remote.until(remote.idle)
    words = ["Red", " sky", " at", " night"]
    reply = remote.path()[-1]
    assert [(one.text, one.at) for one in scored_text(reply)] == list(zip(words, range(4), strict=True))
    looks = remote.session.looks.of(reply.id)
    assert [(one.chosen.text, one.index) for one in looks] == list(zip(words, range(4), strict=True))
    chat_id = remote.session.chat.id
    await remote.session.new_chat()
    await remote.session.open_chat(chat_id)
    assert [one.text for one in scored_text(remote.path()[-1])] == words
    assert "until the chat is left" in remote.session.branches.unreadable(reply.id)


async def test_a_server_that_is_gone_is_told(remote: Stage, server: FakeServer) -> None:
    server.kill()
    remote.session.load_model(parse_endpoint(server.url))
    await remote.until(lambda: remote.view.load_failures)
    assert "cannot be reached" in remote.view.load_failures[-1]


def test_one_shot_and_line_chat(server: FakeServer, main, transcript) -> None:  # type: ignore[no-untyped-def]
    address = f"openai:{server.url}"
    ran = main("-p", "Hi", "-m", address)
    assert (ran.code, ran.out) == (0, "Hello there.\n"), ran.err
    ran = main("-p", "Hi", "-m", address, "--output", "stream-json", "--no-save")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert lines[-1]["text"] == "Hello there."
    assert {line["id"] for line in lines if line["type" if "type" in line else "text"] == "token"} == {None}
    ran = main("--plain", "-m", address, stdin="Hi\n/stats\n/bye\n")
    assert ran.out == "Hello there.\n"
    assert "what you say is sent there" in ran.err
    assert all(address.removeprefix("openai:") not in json.dumps(one) for one in transcript())
    ran = main("tokenize", "-m", address, "text")
    assert ran.code == 2
    assert "needs a model on this machine" in ran.err
    server.kill()
    ran = main("-p", "Hi", "-m", address)
    assert ran.code == 1
    assert "cannot be reached" in ran.err
    assert "Traceback" not in ran.err


def test_a_log_tells_no_address(server: FakeServer, main, llama_chat_home: Path) -> None:  # type: ignore[no-untyped-def]
    address = f"openai:{server.url.replace('//', f'//me:{SECRET}@')}"
    server.script = lambda asked: Reply(status=400, error={"message": f"no {SECRET} top_logprobs"})
    ran = main("-p", "Hi", "-m", address)
    assert ran.code == 1
    assert SECRET not in ran.err
    for file in llama_chat_home.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes()
            assert b"127.0.0.1" not in file.read_bytes()


async def test_continuations_of_a_server_go_on_from_the_text(remote: Stage, server: FakeServer) -> None:
    """It tells no ids: what stands before the token is sent as text, and each way is asked for alone."""
    entries = [{"token": word, "logprob": -0.5, "top_logprobs": []} for word in ("Hello", " there", ".")]
    server.script = lambda asked: Reply(words=("Hello", " there", "."), logprobs=entries)
    reply = await remote.say("Hello")
    ways = iter([" you", " you", " all", " you", " you", " all", " you", " you"])
    server.script = lambda asked: Reply(words=(next(ways, "."),))
    asked = len(server.asked)
    found = Continuations(remote.session, reply.id, 1)
    remote.spawn(found.draw())
    await remote.until(lambda: found.ended)
    assert not found.error
    assert [(fork.text, len(fork.members)) for fork in found.tree.forks] == [(" you", 6), (" all", 2)]
    assert len(server.asked) == asked + 8
    assert server.asked[-1].body["messages"][-1] == {"role": "assistant", "content": "Hello"}
    remote.spawn(found.keep(2))
    await remote.until(remote.idle)
    assert remote.words()[-1] == "Hello all"
    assert scored_text(remote.path()[-1])[0] == ScoredText("Hello", -0.5, 0)
    assert len(remote.session.conversation.siblings(reply.id)) == 2
