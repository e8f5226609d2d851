"""Answering a batch with our own engine on many machines, through Ray Data.

The open lines travel as small blocks. An engine for each node, or for each share of its cores, answers a
block as the engine of this machine would, and what comes back is appended here. Ray hands the blocks of an
engine that died to another. llama-chat has to be installed on each node; the model is found there by its
hash, or fetched from this machine.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat_app.batch.elsewhere.node_model import SharedModel, file_source, model_on_node
from chat_app.batch.format import BatchJob, parse_job
from chat_app.batch.here import Answers, Bounds
from chat_app.batch.identity import ModelIdentity, model_identity
from chat_app.batch.run import BatchRun
from chat_app.console.engine_start import locate_model
from chat_app.console.streams import say
from chat_app.text.errors import SentenceError

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

# Lines of a block: enough to keep an engine's batch full, few enough that a death repeats little.
MOST_LINES = 64
BLOCKS_AN_ENGINE = 4
LOOK_S = 5.0
# Ray reports its use to its makers, starts its workers through uv and writes on the terminal, unless told.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


Result = tuple[Mapping[str, Any], int, int]  # a record, the tokens of its prompt and of its reply


class Cluster:
    """`Means` of a Ray cluster. address: "local", "auto" or where its head is; cores: of each engine, None:
    all of a node's."""

    parse = staticmethod(parse_job)

    def __init__(self, settings: Settings, bounds: Bounds, address: str, cores: int | None = None) -> None:
        self._settings, self._bounds, self._address, self._cores = settings, bounds, address, cores
        self._handed_out = 0  # lines that are with engines, while there are as many

    def identity(self) -> ModelIdentity:
        """Of the model's files on this machine. Raises ModelNotFound, OSError."""
        return model_identity(self._settings.model, self._settings.tokenizer)

    def answer(self, run: BatchRun) -> int:
        """Answer on the cluster; Ctrl+C and its like stop it. Raises SentenceError where Ray fails."""
        from chat_app.console.interrupt import stop_on_signals

        is_writing = False

        def leave() -> None:
            if not is_writing:  # Ray waits without a look at any flag
                raise KeyboardInterrupt

        for notice in self._settings.notices:
            say(notice)
        path = locate_model(self._settings)
        shared = SharedModel.of(path, self._settings, run.identity)
        with _ray(self._address) as ray, stop_on_signals(leave) as flag:
            run.begin()
            try:
                for record, prompt_n, reply_n in self._results(ray, run, shared):
                    is_writing = True
                    run.append(record, prompt_n, reply_n)
                    is_writing = False
                    run.progress.show(run.state(min(self._handed_out, run.total - run.finished)))
                    if flag.stop():
                        break
                run.progress.finish(run.state(0))
            except KeyboardInterrupt:
                if not flag.stop():
                    raise
            finally:
                run.progress.close()
            if flag.stop():
                say("stopped; run the same command again to go on")
            return flag.exit_code

    def _results(self, ray: Any, run: BatchRun, shared: SharedModel) -> Iterator[Result]:
        """Each line's result once, as blocks are done. Raises SentenceError."""
        cores, engines = self._shares(ray)
        say(
            f"{engines:,} engine{'s' if engines > 1 else ''} of {cores:,} core{'s' if cores > 1 else ''} each"
        )
        settings = replace(self._settings, threads=min(self._settings.threads or cores, cores))
        size = max(1, min(MOST_LINES, -(-(run.total - run.finished) // (engines * BLOCKS_AN_ENGINE))))
        self._handed_out = engines * size
        blocks = ray.data.from_arrow_refs([ray.put(block) for block in _blocks(run, size)])
        answered = blocks.map_batches(
            NodeEngine,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=engines, initial_size=engines),
            num_cpus=cores,
            fn_constructor_args=(settings, self._bounds, shared, file_source(ray, shared)),
        )
        done: set[str] = set()
        try:
            for table in answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in table.to_pylist():
                    record = json.loads(row["record"])
                    if record["custom_id"] not in done:
                        done.add(record["custom_id"])
                        yield record, row["prompt_n"], row["reply_n"]
        except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
            raise SentenceError(f"The cluster failed: {_last_words(error)}") from None

    def _shares(self, ray: Any) -> tuple[int, int]:
        """(cores of an engine, engines). Raises SentenceError where no node has as many."""
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        nodes = [cpus for cpus in nodes if cpus]
        cores = self._cores or min(nodes, default=0)
        engines = sum(cpus // cores for cpus in nodes) if cores else 0
        if not engines:
            raise SentenceError(f"No node of the cluster has {cores or 1} cores for an engine.")
        return cores, engines


class NodeEngine:
    """The engine of a node: Ray Data makes it there, and gives it one block after another."""

    def __init__(self, settings: Settings, bounds: Bounds, shared: SharedModel, source: Any) -> None:
        from chat_app.engines.local import open_text_engine

        path = model_on_node(shared, settings, source)
        engine = open_text_engine(path, replace(settings, model=str(path)), lambda progress: None)
        self._answers = Answers(engine, shared.name, shared.identity, settings, bounds)

    def __call__(self, block: Any) -> Any:
        """A table of lines to a table of records."""
        import pyarrow

        results: list[Result] = []
        jobs: list[BatchJob] = [parse_job(line) for line in block.column("line").to_pylist()]
        self._answers.give(jobs, lambda *result: results.append(result))
        records, prompt_n, reply_n = zip(*results, strict=True)
        texts = [json.dumps(record) for record in records]
        return pyarrow.table({"record": texts, "prompt_n": prompt_n, "reply_n": reply_n})


def _blocks(run: BatchRun, size: int) -> Iterator[Any]:
    """The open lines as tables of at most `size`; one at a time is in this process."""
    import pyarrow

    lines = (judged.line.text for judged in run.open_lines())
    while some := list(itertools.islice(lines, size)):
        yield pyarrow.table({"line": pyarrow.array(some, pyarrow.large_binary())})


@contextlib.contextmanager
def _ray(address: str) -> Iterator[Any]:
    """Ray, connected for the length of a block, and quiet. Raises SentenceError where there is none."""
    _look_for_head(address)
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    try:
        import ray
        import ray.data
    except ImportError:
        needed = "--ray needs the Python package ray; `pip install llama-chat[cluster]` brings it."
        raise SentenceError(needed) from None
    try:
        # A cluster that is there has its own dashboard.
        more: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise SentenceError(f"There is no Ray cluster at {address}: {_last_words(error)}") from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray", "ray.data"):  # what it tells of itself is nobody's business here
            logging.getLogger(name).setLevel(logging.ERROR)
        yield ray
    finally:
        ray.shutdown()


def _look_for_head(address: str) -> None:
    """Raises SentenceError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), LOOK_S).close()
    except (OSError, OverflowError) as error:
        raise SentenceError(f"There is no Ray cluster at {address}: {error}.") from None


def _last_words(error: BaseException) -> str:
    """What an error of another process comes down to: the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
