"""Answering a batch with the engine of this machine: many requests share its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat_app.batch.format import BatchJob, parse_job
from chat_app.batch.identity import Computation, ModelIdentity, model_identity
from chat_app.batch.progress import BatchState
from chat_app.batch.records import answer_record, failure_record, refusal_record
from chat_app.batch.resume import other_ways
from chat_app.batch.run import BatchRun
from chat_app.console.streams import say
from chat_app.engines.local import advised_values
from llama_core.choices import DEFAULT_KV, KvType

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from chat_app.openai.prepared import Prepared
    from llama_core.engine.batch.scheduler import BatchEngine
    from llama_core.engine.batch.text import TextRequest, TextResult
    from llama_core.engine.text import TextEngine

MIB = 1 << 20
DEFAULT_KV_BUDGET = 1024 * MIB
# A record, the tokens of its prompt and of its reply.
Take = Callable[[Mapping[str, Any], int, int], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """kv_budget: bytes for all keys and values, None: the default. max_batch: the most requests at once."""

    kv_budget: int | None = None
    max_batch: int = 64


class Answers:
    """Requests as the engine answers them, each as a record for the output."""

    def __init__(
        self, engine: TextEngine, model: str, identity: ModelIdentity, settings: Settings, bounds: Bounds
    ) -> None:
        self.engine, self._model, self._identity = engine, model, identity
        self.batch = _batch_engine(engine, bounds)
        self.computation = computation_of(engine.backend, settings.kv, self.batch.ctx_size)
        self._under_way: dict[str, tuple[BatchJob, Prepared]] = {}

    def give(
        self,
        jobs: Iterable[BatchJob],
        take: Take,
        stopped: Callable[[], bool] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """Answer `jobs`, which are read as there is room; `take` gets each record as it is done."""
        from llama_core.engine.batch.text import run_texts

        requests = self._requests(jobs, take)
        for result in run_texts(self.batch, self.engine.tokenizer, requests, stopped, on_step):
            job, prepared = self._under_way.pop(result.key)
            take(self._record(job, prepared, result), result.prompt_n, result.reply_n)

    def _requests(self, jobs: Iterable[BatchJob], take: Take) -> Iterator[TextRequest]:
        """What cannot even be encoded fails on the way."""
        from chat_app.openai.errors import BadRequest
        from chat_app.openai.prepared import prepare
        from llama_core.engine.batch.text import TextRequest

        advice = advised_values(self.engine.checkpoint)
        for job in jobs:
            try:
                made = prepare(job.asked, self.engine, advice)
            except BadRequest as refusal:  # the template refuses it, or its grammar cannot be held
                take(refusal_record(job, self._identity, refusal), 0, 0)
                continue
            self._under_way[job.custom_id] = (job, made)
            yield TextRequest(job.custom_id, made.ids, made.params, made.rules, made.thinking, made.answers)

    def _record(self, job: BatchJob, prepared: Prepared, result: TextResult) -> Mapping[str, Any]:
        if result.reason == "failed":
            return failure_record(job, self._identity, result.error)
        created = int(time.time())
        return answer_record(
            job, self._identity, self.computation, prepared, result, model=self._model, created=created
        )


def computation_of(backend: str, kv: KvType | None, ctx_size: int) -> Computation:
    """How an engine computes. Where "auto" fell back on NumPy, the cache is float32 whatever `kv` is."""
    return Computation(backend, (kv or DEFAULT_KV) if backend.startswith("jit") else "f32", ctx_size)


class EngineHere:
    """`Means` of this machine."""

    parse = staticmethod(parse_job)

    def __init__(self, settings: Settings, bounds: Bounds) -> None:
        self._settings, self._bounds = settings, bounds

    def identity(self) -> ModelIdentity:
        """Of the model's files. Raises ModelNotFound, OSError."""
        return model_identity(self._settings.model, self._settings.tokenizer)

    def answer(self, run: BatchRun) -> int:
        """Load the model and answer; Ctrl+C and its like stop it."""
        from chat_app.console.engine_start import started_engine
        from chat_app.console.interrupt import stop_on_signals

        settings = self._settings
        with started_engine(settings, guessing=False) as (engine, path, _), stop_on_signals() as flag:
            answers = Answers(engine, path.name, run.identity, settings, self._bounds)
            if note := other_ways(run.output, answers.computation):
                say(note)
            batch = answers.batch
            run.begin()

            def show() -> None:
                run.progress.show(state())

            def state() -> BatchState:
                return run.state(batch.running_n, batch.tokens_drawn, batch.tokens_computed)

            try:
                answers.give(_jobs(run, flag.stop), run.append, flag.stop, show)
                run.progress.finish(state())
            finally:
                run.progress.close()
            if engine.template is not None and engine.template.system_note:
                say(engine.template.system_note)
            if flag.stop():
                say("stopped; run the same command again to go on")
            return flag.exit_code


def _jobs(run: BatchRun, stopped: Callable[[], bool]) -> Iterator[BatchJob]:
    for judged in run.open_lines():
        if stopped():
            return
        assert isinstance(judged.item, BatchJob)
        yield judged.item


def _batch_engine(engine: TextEngine, bounds: Bounds) -> BatchEngine:
    from llama_core.engine.batch.scheduler import BatchEngine
    from llama_core.memory import available_bytes

    budget = bounds.kv_budget or min(DEFAULT_KV_BUDGET, available_bytes() // 4)
    return BatchEngine(
        engine.model,
        kv_budget_bytes=budget,
        ctx_size=engine.ctx_size,
        max_sequences=bounds.max_batch,
    )
