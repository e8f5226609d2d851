"""Batches that servers answer: shared, handed on, resumed, killed; nothing lost and nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch.elsewhere.limit import LOSS, START, Limit
from tests.support.batch_lines import COMPLETION, answers, by_id, errors, line, text_of, write
from tests.support.fake_server import Asked, FakeServer, Reply, fake_server
from tests.support.luck import SEED

RunCli = Callable[..., Any]


def echo(asked: Asked) -> Reply:
    said = asked.body["messages"][-1]["content"] if "messages" in asked.body else asked.body["prompt"]
    return Reply(words=("You", " said: ", said))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(echo) as one:
        yield one


def posts(server: FakeServer) -> list[Asked]:
    return [asked for asked in server.asked if asked.body]


def test_a_batch_asks_a_server_and_is_resumed(server: FakeServer, main: RunCli, tmp_path: Path) -> None:
    lines = [line(f"r{i}") for i in range(20)]
    lines[3]["body"] |= {"tools": [{"type": "function"}], "n": 2}  # the server's to judge
    lines.append(line("raw", COMPLETION))
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    ran = main("batch", str(source), str(out), "--engine", server.url)
    assert ran.code == 0, ran.err
    assert "21 requests answered in 0:0" in ran.err
    assert "231 prompt tokens, 63 reply tokens" in ran.err
    found = by_id(out)
    assert {name: text_of(record) for name, record in found.items() if name != "raw"} == {
        f"r{i}": f"You said: Say r{i}" for i in range(20)
    }
    assert text_of(found["raw"]) == "You said: Once"
    assert {asked.body["model"] for asked in posts(server)} == {"fake"}
    assert any(asked.body.get("n") == 2 for asked in posts(server))
    n = len(posts(server))
    ran = main("batch", str(source), str(out), "--engine", f"{server.url}#fake")
    assert ran.code == 0
    assert "nothing to do" in ran.err
    write(source, [*lines, line("new")])
    assert main("batch", str(source), str(out), "--engine", server.url).code == 0
    assert len(posts(server)) == n + 1
    ran = main("batch", str(source), str(out), "--engine", f"{server.url}#other")
    assert ran.code == 2
    assert "was made by another model (fake, not other)" in ran.err
    assert server.url.split("/")[2] not in out.read_text()


def test_what_a_server_refuses_is_an_error_of_its_line(
    server: FakeServer, main: RunCli, tmp_path: Path
) -> None:
    def script(asked: Asked) -> Reply:
        if asked.body["max_tokens"] == 7:
            return Reply(status=400, error={"message": "too long", "code": "context_length_exceeded"})
        if asked.body["max_tokens"] == 8:
            return Reply(status=500, error={"message": "it broke"})
        return echo(asked)

    server.script = script
    lines = [line("a", max_tokens=7), line("b", max_tokens=8), *(line(f"r{i}") for i in range(8))]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    ran = main("batch", str(source), str(out), "--engine", server.url, "--concurrency", "4")
    assert ran.code == 1
    assert {error["code"] for error in errors(out)} == {"context_length_exceeded", "http_500"}
    assert sorted(answers(out)) == [f"r{i}" for i in range(8)]
    server.script = echo
    assert main("batch", str(source), str(out), "--engine", server.url).code == 1  # not run again unasked
    assert main("batch", str(source), str(out), "--engine", server.url, "--retry-failed").code == 0
    assert len(answers(out)) == 10


def test_500_lines_over_three_servers_of_which_one_is_killed_and_one_is_busy(
    main: RunCli, tmp_path: Path
) -> None:
    """The killed one ends with requests under way; the busy one refuses every other request for a while."""
    lock, n = threading.Lock(), Counter[str]()

    def counted(name: str) -> Callable[[Asked], Reply]:
        def script(asked: Asked) -> Reply:
            with lock:
                n[name] += 1
                busy = name == "busy" and n[name] % 2 == 0 and n[name] < 60
                if name == "mortal" and n[name] == 40:
                    threading.Thread(target=mortal.kill).start()
            if busy:
                return Reply(status=429, headers={"Retry-After": "0.05"})
            return Reply(words=echo(asked).words, wait_s=0.004)

        return script

    with fake_server(counted("sound")) as sound, fake_server(counted("busy")) as busy:
        mortal = FakeServer(counted("mortal"))
        lines = [line(f"r{i}") for i in range(500)]
        source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
        urls = ",".join(f"{one.url}#fake" for one in (sound, busy, mortal))
        ran = main("batch", str(source), str(out), "--engine", urls)
    assert ran.code == 0, ran.err
    found = by_id(out)  # each custom_id once
    assert {name: text_of(record) for name, record in found.items()} == {
        f"r{i}": f"You said: Say r{i}" for i in range(500)
    }
    assert n["mortal"] >= 40
    assert n["busy"] >= 20
    assert "500 requests answered" in ran.err
    assert main("batch", str(source), str(out), "--engine", urls).code == 0  # the dead one's answers count


def test_killed_again_and_again_nothing_is_lost_or_repeated(
    server: FakeServer, tmp_path: Path, llama_chat_home: Path
) -> None:
    server.script = lambda asked: Reply(words=echo(asked).words, wait_s=0.005)
    lines = [line(f"r{i}") for i in range(200)]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    command = [
        sys.executable,
        "-m",
        "chat_app",
        "batch",
        str(source),
        str(out),
        "--engine",
        f"{server.url}#fake",
    ]
    chance, kills = random.Random(SEED), 0
    while True:
        child = subprocess.Popen([*command, "--quiet", "--concurrency", "3"], env=dict(os.environ))
        target = (len(out.read_bytes().splitlines()) if out.exists() else 0) + chance.randint(10, 60)
        while child.poll() is None:
            if kills < 3 and out.exists() and out.read_bytes().count(b"\n") >= target:
                child.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        if child.wait(timeout=60) == 0:
            break
    assert kills == 3, f"seed {SEED}"
    assert sorted(by_id(out)) == sorted(f"r{i}" for i in range(200)), f"seed {SEED}"


def test_no_server_left_is_a_sentence_and_the_run_can_go_on(
    server: FakeServer, main: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_app.batch.elsewhere import host
    from chat_app.engines.remote.patience import Patience

    monkeypatch.setattr(host, "PATIENCE", Patience(tries=3, first_s=0.01))
    source, out = write(tmp_path / "in.jsonl", [line("a"), line("b")]), tmp_path / "out.jsonl"
    server.script = lambda asked: Reply(status=401, error={"message": "who are you"})
    ran = main("batch", str(source), str(out), "--engine", server.url)
    assert ran.code == 1
    assert "No server answers, 2 lines are left" in ran.err
    assert "who are you (401)" in ran.err
    assert not out.exists()
    server.kill()
    ran = main("batch", str(source), str(out), "--engine", f"{server.url}#fake")
    assert ran.code == 1
    assert "cannot be reached" in ran.err
    assert "Run the same command again" in ran.err


def test_what_cannot_be_asked(main: RunCli, tmp_path: Path, server: FakeServer) -> None:
    source, out = write(tmp_path / "in.jsonl", [line("a")]), tmp_path / "out.jsonl"
    for options, said in (
        (("--engine", "nobody"), "neither an engine of the config nor a URL"),
        (("--engine", server.url, "-m", "x"), "--engine and -m"),
        (("--concurrency", "3"), "--concurrency is for --engine"),
        (("--cores", "3"), "--cores is for --ray"),
        (("--engine", server.url, "--ray", "local"), "--ray runs a model of this machine"),
    ):
        ran = main("batch", str(source), str(out), *options)
        assert ran.code in (1, 2)
        assert said in ran.err
    assert main("batch", str(source), str(out), "-m", f"openai:{server.url}").code == 0
    assert answers(out) == ["a"]


class Service:
    """Answers in `each_s` as long as `places` requests are there, then each waits its turn."""

    def __init__(self, places: int, each_s: float = 1.0) -> None:
        self.places, self.each_s, self.now_s = places, each_s, 0.0

    def run(self, limit: Limit, answers: int) -> None:
        for _ in range(answers):
            self.now_s += self.each_s / min(limit.value, self.places)
            limit.answered(self.now_s, 10, full=True)


def test_the_limit_grows_while_it_brings_more_and_no_further() -> None:
    limit, service = Limit(), Service(places=16)
    service.run(limit, 300)
    assert 16 <= limit.value <= 24
    many = Limit()
    Service(places=4000).run(many, 8000)
    assert many.value == many.most
    bounded = Limit(5)
    Service(places=100).run(bounded, 500)
    assert bounded.value == 5


def test_a_refusal_takes_a_part_away_and_it_comes_back() -> None:
    limit, service = Limit(), Service(places=64)
    service.run(limit, 400)
    before = limit.value
    limit.refused()
    assert limit.value == int(before * LOSS)
    service.run(limit, 4000)
    assert limit.value > int(before * LOSS)
    for _ in range(50):
        limit.refused()
    assert limit.value == 1
    lone = Limit()
    for at in range(100):
        lone.answered(float(at), 10, full=False)  # too few requests to tell anything
    assert lone.value == START
