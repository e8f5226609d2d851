"""faults.md row 22: turn after turn in the real app, and nothing but the conversation grows."""

from __future__ import annotations

import asyncio
import functools
import gc
import mmap
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
Leak = Callable[[int], object]
CACHED = type(functools.lru_cache(len))
LEAK_BYTES = 4_000_000  # a turn: far more than what other tests left, and is given back meanwhile
CHAT_TURNS = 10  # then a new chat: a long soak is not one endless conversation


@dataclass(frozen=True)
class Counts:
    """What may not grow."""

    threads: int
    files: int
    tasks: int
    logprobs: int
    streams: int
    memory: int


def count(app: Any) -> Counts:
    gc.collect()
    tasks = asyncio.all_tasks()
    session = app.chat.session
    return Counts(
        threading.active_count(),
        psutil.Process().num_fds(),
        len(tasks),
        len(session.looks) + len(session.queue),
        sum("MarkdownStream" in str(task.get_coro()) for task in tasks),
        psutil.Process().memory_info().rss,
    )


async def empty(app: Any, pilot: Any, until: Any) -> None:
    """A new chat, with nothing mounted: every mounted message has tasks of its own.

    The toolkit's caches are bounded, but it takes more turns than a warm-up has until they are full: one of
    16,384 styles takes some three a turn.
    """
    await app.chat.session.new_chat()
    await until(pilot, lambda: not app.chat.messages.views())
    await pilot.pause(0.3)
    gc.unfreeze()  # the app froze what its start made, these caches too, and then they are not found
    for one in gc.get_objects():
        if type(one) is CACHED and one.__module__.partition(".")[0] in ("textual", "rich"):
            one.cache_clear()


async def soak(
    app: Any, engine: FakeEngine, ready: Any, until: Any, turns: int, leak: Leak | None = None
) -> tuple[Counts, Counts, list[float]]:
    """(counts after a warm-up of a quarter, counts at the end, seconds of each turn)."""
    seconds: list[float] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        first = None
        warm_up = max(CHAT_TURNS, turns // 4 // CHAT_TURNS * CHAT_TURNS)
        for turn in range(turns):
            if turn % CHAT_TURNS == 0:
                await empty(app, pilot, until)
                engine.calls.clear()  # what the stand-in remembers for tests
                engine.params.clear()
                first = count(app) if turn == warm_up else first
            begun = time.perf_counter()
            wanted = len(app.chat.session.conversation) + 2
            app.chat.session.submit(f"turn {turn}")
            async with asyncio.timeout(60):
                while len(app.chat.session.conversation) < wanted or app.chat.session.generating:
                    await asyncio.sleep(0.001)
            seconds.append(time.perf_counter() - begun)
            if leak is not None:
                leak(turn)
        await empty(app, pilot, until)
        engine.calls.clear()
        assert first is not None
        return first, count(app), seconds


def growing(first: Counts, last: Counts, *, memory_bytes: float) -> list[str]:
    """What grew from one count to the other; memory by more than `memory_bytes`."""
    found = {
        "threads": last.threads > first.threads + 3,  # a pool may not be full yet
        # A read of the chats that is under way has a connection of its own: the file, its log, its index.
        "open files": last.files > first.files + 3,
        "tasks": last.tasks > first.tasks + 3,
        "streams that outlive their reply": last.streams > 0,
        "what belongs to chats that were left": last.logprobs > 0,
        "memory": last.memory - first.memory >= memory_bytes,
    }
    return [name for name, grows in found.items() if grows]


async def test_thirty_turns(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    first, last, _ = await soak(make_app(), engine, ready, until, 30)
    assert growing(first, last, memory_bytes=20e6) == []


async def test_planted_leaks_are_found(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, tmp_path: Path
) -> None:
    kept: list[Any] = []
    stop = threading.Event()

    def leak(turn: int) -> None:
        threading.Thread(target=stop.wait, daemon=True).start()
        kept.append((tmp_path / f"leak-{turn}").open("wb"))
        # Pages of its own: what the allocator gives again may be in memory already.
        kept.append(mmap.mmap(-1, LEAK_BYTES))
        kept[-1].write(b"x" * LEAK_BYTES)

    try:
        first, last, _ = await soak(make_app(), engine, ready, until, 30, leak)
        assert growing(first, last, memory_bytes=20e6) == ["threads", "open files", "memory"]
    finally:
        stop.set()
        for one in kept:
            one.close()


async def test_a_new_chat_while_streaming_leaves_no_task(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any
) -> None:
    app = make_app()

    def work() -> set[asyncio.Task[Any]]:
        """All tasks but those of widgets, of which an empty chat shows others."""
        return {one for one in asyncio.all_tasks() if "_process_messages" not in str(one.get_coro())}

    def begun(turns: Any) -> Any:
        yield "begun"
        engine.gate.clear()
        yield " never"

    engine.script = begun
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        before = work()
        app.chat.prompt.set_text("go")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.chat.messages.views()) == 2)
        await app.chat.messages.show_path([])  # the view goes before the reply is settled
        await until(pilot, lambda: not app.chat.messages.views())
        engine.gate.set()
        await until(pilot, lambda: not work() - before, timeout=10)


@pytest.mark.slow
async def test_thousands_of_turns(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    first, last, seconds = await soak(make_app(), engine, ready, until, 4000)
    assert growing(first, last, memory_bytes=first.memory * 0.01) == []
    warm = seconds[len(seconds) // 4 :]
    part = len(warm) // 3

    def p99(values: list[float]) -> float:
        return statistics.quantiles(values, n=100)[98]

    assert p99(warm[-part:]) / p99(warm[:part]) < 1.1
