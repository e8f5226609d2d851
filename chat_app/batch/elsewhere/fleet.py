"""Answering a batch with servers that share the work.

A request is with one server at a time. What a server fails at goes back to the front of the queue, for
whichever server has room; what it refuses is an error of its line. Each answer is on disk before the next is
waited for, so a kill loses what is under way, and nothing of that was written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chat_app.batch.format import SentRequest, parse_sent
from chat_app.batch.identity import ModelIdentity, server_identity
from chat_app.batch.progress import clock
from chat_app.batch.records import refused_record, sent_record
from chat_app.batch.run import BatchRun
from chat_app.config.endpoints import Endpoint
from chat_app.console.streams import say
from chat_app.text.errors import SentenceError

if TYPE_CHECKING:
    from chat_app.batch.elsewhere.host import Host
    from chat_app.engines.remote.client import ServerError

TICK_S = 0.1
# A request at which servers failed so often, while they answered others, is at fault itself.
TRIES = 5


class Fleet:
    """`Means` of servers. most: the most requests at once for each, None: as many as help."""

    parse = staticmethod(parse_sent)

    def __init__(self, endpoints: Sequence[Endpoint], *, most: int | None = None) -> None:
        self._endpoints = list(dict.fromkeys(endpoints))
        self._most = most
        self._models: dict[Endpoint, str] = {}

    def identity(self) -> ModelIdentity:
        """Of all servers' models. Those of which no model is named are asked for theirs; what does not answer
        then has no part in the run. Raises SentenceError where none is left."""
        try:
            asyncio.run(self._find_models())
        except ImportError as error:
            if error.name != "httpx2":
                raise
            message = "--engine needs the Python package httpx2; `pip install llama-chat[remote]` brings it."
            raise SentenceError(message) from None
        made = [server_identity(endpoint, model) for endpoint, model in self._models.items()]
        names = sorted({one.name for one in made})
        return ModelIdentity(", ".join(names), made[0].sha256, frozenset(one.sha256 for one in made))

    async def _find_models(self) -> None:
        problems: list[str] = []
        for endpoint in self._endpoints:
            try:
                self._models[endpoint] = endpoint.model or await _only_model(endpoint)
            except SentenceError as error:
                problems.append(str(error))
        if not self._models:
            raise SentenceError(" ".join(problems))
        for problem in problems:
            say(f"{problem} It has no part in this run.")

    def answer(self, run: BatchRun) -> int:
        """Ask the servers; Ctrl+C and its like stop it. 1 where every server failed."""
        from chat_app.console.interrupt import stop_on_signals

        with stop_on_signals() as flag:
            run.begin()
            try:
                problem = asyncio.run(self._answer(run, flag.stop))
            finally:
                run.progress.close()
            if flag.stop():
                say("stopped; run the same command again to go on")
            elif problem:
                say(f"{problem} Run the same command again to go on")
            return flag.exit_code or int(bool(problem))

    async def _answer(self, run: BatchRun, stopped: Callable[[], bool]) -> str:
        """Why the work could not be ended, "" where it was or the user stopped it."""
        async with _hosts(self._models, self._most) as hosts:
            work = _Work(run, hosts)
            problem = await work.go_on(stopped)
            run.progress.finish(run.state(work.running))
            run.progress.close()
            if run.answered:
                say(_sum(run, hosts))
            for host in hosts:
                if host.unfit is not None or host.is_lost:
                    say(f"{host.name} was left out: {host.unfit or host.trouble}")
            return problem


class _Work:
    """What is under way."""

    def __init__(self, run: BatchRun, hosts: Sequence[Host]) -> None:
        self._run, self._hosts = run, hosts
        self._lines = self._open_requests()
        self._back: deque[SentRequest] = deque()  # for another server
        self._tasks: dict[asyncio.Task[dict[str, Any]], tuple[SentRequest, Host]] = {}
        self._tries: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Requests that are with servers."""
        return len(self._tasks)

    async def go_on(self, stopped: Callable[[], bool]) -> str:
        """Until all is answered, the user stops it or no server is left; why not, in the last case."""
        try:
            while not stopped():
                self._start()
                if not self._tasks and all(host.is_lost for host in self._hosts):
                    return self._why()
                if not self._tasks and not self._more():
                    return ""
                if not self._tasks:
                    await asyncio.sleep(TICK_S / 10)  # servers rest
                    continue
                done, _ = await asyncio.wait(self._tasks, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._take(task)
                self._run.progress.show(self._run.state(self.running))
            return ""
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open_requests(self) -> Iterator[SentRequest]:
        for judged in self._run.open_lines():
            assert isinstance(judged.item, SentRequest)
            yield judged.item

    def _more(self) -> bool:
        """Whether requests wait; the next one is read if need be."""
        if not self._back:
            self._back.extend(request for request in [next(self._lines, None)] if request is not None)
        return bool(self._back)

    def _start(self) -> None:
        """Give each server what it has room for, in turn."""
        free = [host for host in self._hosts if host.has_room]
        while free and self._more():
            for host in list(free):
                if not self._more():
                    return
                request = self._back.popleft()
                task = asyncio.ensure_future(host.ask(request))
                self._tasks[task] = (request, host)
                if not host.has_room:
                    free.remove(host)

    def _take(self, task: asyncio.Task[dict[str, Any]]) -> None:
        from chat_app.batch.elsewhere.host import tokens_of
        from chat_app.engines.remote.client import ServerError

        request, host = self._tasks.pop(task)
        try:
            answer = task.result()
        except ServerError as error:
            self._failed(request, host, error)
            return
        self._run.append(sent_record(request, host.identity, answer), *tokens_of(answer))

    def _failed(self, request: SentRequest, host: Host, error: ServerError) -> None:
        if host.unfit is None and not error.may_pass:
            self._run.append(refused_record(request, host.identity, error))
            return
        if error.reached and not error.is_busy:
            self._tries[request.custom_id] += 1
            if self._tries[request.custom_id] >= TRIES and self._run.answered:
                self._run.append(refused_record(request, host.identity, error))
                return
        self._back.appendleft(request)

    def _why(self) -> str:
        reasons = "; ".join(f"{host.name}: {host.unfit or host.trouble}" for host in self._hosts)
        left = self._run.total - self._run.finished
        return f"No server answers, {left:,} lines are left. {reasons}"


@contextlib.asynccontextmanager
async def _hosts(models: dict[Endpoint, str], most: int | None) -> AsyncIterator[list[Host]]:
    from chat_app.batch.elsewhere.host import Host
    from chat_app.engines.remote.client import Client

    hosts: list[Host] = []
    try:
        for endpoint, model in models.items():
            hosts.append(Host(Client(endpoint), model, most=most))
        yield hosts
    finally:
        for host in hosts:
            await host.close()


async def _only_model(endpoint: Endpoint) -> str:
    from chat_app.engines.remote.client import Client
    from chat_app.engines.remote.discovery import discover

    client = Client(endpoint)
    try:
        return (await discover(client)).model
    finally:
        await client.close()


def _sum(run: BatchRun, hosts: Sequence[Host]) -> str:
    """What this run did."""
    rate = run.reply_n / run.elapsed_s if run.elapsed_s > 0 else 0.0
    said = (
        f"{run.answered:,} requests answered in {clock(run.elapsed_s)}: {run.prompt_n:,} prompt tokens, "
        f"{run.reply_n:,} reply tokens, {rate:,.0f} tok/s"
    )
    if len(hosts) > 1:
        shares = ", ".join(f"{host.name} {host.answered:,}" for host in hosts)
        said += f" ({shares})"
    return said
