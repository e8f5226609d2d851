"""`llama-chat batch IN.jsonl OUT.jsonl`: answer a file of requests in OpenAI's batch format."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from chat_app.batch.format import BadLine, BatchJob
from chat_app.batch.identity import Computation, model_identity
from chat_app.batch.input import BatchInput
from chat_app.batch.output import BatchOutput, OutputError
from chat_app.batch.progress import BatchProgress, BatchState
from chat_app.batch.reader import Line
from chat_app.batch.records import answer_record, bad_line_record, failure_record
from chat_app.batch.resume import JudgedLine, judge, other_ways
from chat_app.commands.options import add_model_options, file_path, positive, settings_from
from chat_app.config.paths import get_paths
from chat_app.console.streams import say
from chat_app.openai.requests import as_advised
from chat_app.text.errors import UsageError
from llama_core.choices import DEFAULT_KV

if TYPE_CHECKING:
    from llama_core.engine.batch.scheduler import BatchEngine
    from llama_core.engine.batch.text import TextRequest, TextResult
    from llama_core.engine.text import TextEngine

MIB = 1 << 20
DEFAULT_KV_BUDGET = 1024 * MIB


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The two files, how much runs at once, and what is tried again."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "batch",
        help="answer a file of requests",
        description="Answer every line of IN (OpenAI's batch format, /v1/chat/completions or "
        "/v1/completions) and append the results to OUT, each on disk as soon as it is done. Run the same "
        "command again after an interruption: what OUT holds is not computed again. A line that cannot be "
        "run becomes an error line; correct it in IN and run the same command. Exit code 1 when any line "
        "of IN failed and was not corrected, or IN or OUT changed meanwhile. OUT holds one answer for a "
        "custom_id: where it answers another request, or is another model's, nothing is run (exit code 2) "
        "and another OUT is needed.",
    )
    parser.add_argument("input", type=file_path, metavar="IN.jsonl")
    parser.add_argument("output_file", type=file_path, metavar="OUT.jsonl")
    parser.add_argument(
        "--kv-budget",
        type=positive,
        metavar="MIB",
        help="memory for all keys and values (default: 1024, or a quarter of what is free); requests "
        "beyond it wait. A request without max_tokens reserves a whole context",
    )
    parser.add_argument(
        "--max-batch", type=positive, default=64, metavar="N", help="the most requests at once (default: 64)"
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="run requests that failed again, unchanged: with a larger --kv-budget or --ctx-size, say",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Answer the file. Exit code 1 where a line failed or the output takes no more. Raises UsageError."""
    source = BatchInput(args.input)
    if args.output_file.resolve() == source.path.resolve():
        raise UsageError("IN and OUT are the same file")
    try:
        output = BatchOutput(args.output_file, get_paths().state / "batch")
    except OutputError as error:
        raise UsageError(str(error)) from None
    try:
        if output.repaired_bytes:
            say(f"{output.path}: a result cut short by an interruption was removed; it is computed again")
        return BatchRun(args, source, output).run()
    except OutputError as error:
        say(f"{error}.")
        return 1
    finally:
        output.close()


class BatchRun:
    """One run of the command over an open output.

    The input is read three times, each time from its beginning, because it may be far larger than memory:
    to judge all of it before anything is done, to report bad lines, and to run the rest.
    """

    def __init__(self, args: argparse.Namespace, source: BatchInput, output: BatchOutput) -> None:
        self.args, self.source, self.output = args, source, output
        self.settings = settings_from(args)
        self.progress = BatchProgress(quiet=args.quiet)
        self.jobs: dict[str, BatchJob] = {}  # under way
        self.total = self.finished = self.failed = 0  # lines
        self.answered = self.answered_tokens = 0  # requests of this run, and their tokens

    def run(self) -> int:
        """Judge every line by what the output holds, compute the open ones, tell the sum; the exit code."""
        if self.source.is_empty():
            self.output.create()
            say(f"nothing to do: {self.source.path} has no requests")
            return 0  # nothing failed: a script that found nothing to ask goes on with an empty file
        self.identity = model_identity(self.settings.model, self.settings.tokenizer)
        for judged in self._judged(self.source.first()):
            self.total += 1
            self.finished += judged.state != "open"
            self.failed += judged.state == "failed"
        if self.finished == self.total:
            say(f"nothing to do: {self.output.path} holds all {self.total:,} results")
            return self._ended()
        for judged in self._judged(self.source.again()):
            if judged.state == "open" and isinstance(judged.item, BadLine):
                self._append(bad_line_record(judged.item, judged.line))
        # Without requests among what is left there is no need for the model.
        code = self._compute() if self.finished < self.total else 0
        return code or self._ended()

    def _ended(self) -> int:
        """The exit code of a run that nothing stopped, and the sentences for it. Raises OutputError."""
        self.output.check()
        if self.failed:
            said = f"{self.failed:,} of {self.total:,} lines failed; see their error in {self.output.path}"
            say(f"{said}. Lines corrected in IN are run by the same command")
        changed = self.source.changed()
        if changed:
            left = self.total - self.finished
            lost = f"{left:,} of its {self.total:,} lines were" if left else "what is new in it was"
            said = f"{self.source.path} changed while it was read: {lost} not run"
            say(f"{said}. Run the same command again to run what it holds now")
        return int(self.failed > 0 or changed)

    def _compute(self) -> int:
        """Run the requests that are open; the exit code of what stopped it, else 0."""
        from chat_app.console.engine_start import started_engine
        from chat_app.console.interrupt import stop_on_signals
        from llama_core.engine.batch.text import run_texts
        from llama_core.engine.clock import RunningTime

        with started_engine(self.settings, guessing=False) as (engine, path, _), stop_on_signals() as flag:
            batch = self._batch_engine(engine)
            computation = self._computation(engine, batch)
            if note := other_ways(self.output, computation):
                say(note)
            clock = RunningTime()  # a batch that was stopped and went on is not slower for it
            started_s = clock()

            def state() -> BatchState:
                return BatchState(
                    total=self.total,
                    finished=self.finished,
                    failed=self.failed,
                    running=batch.running_n,
                    answered=self.answered,
                    answered_tokens=self.answered_tokens,
                    drawn=batch.tokens_drawn,
                    computed=batch.tokens_computed,
                    elapsed_s=clock() - started_s,
                )

            requests = self._requests(engine, flag.stop)
            try:
                for result in run_texts(
                    batch, engine.tokenizer, requests, flag.stop, lambda: self.progress.show(state())
                ):
                    self._take(result, path.name, computation)
                self.progress.finish(state())
            finally:
                self.progress.close()
            if engine.template is not None and engine.template.folds_system:
                from llama_core.tokenizers.templates.chat_template import SYSTEM_FOLDED

                say(SYSTEM_FOLDED)
            if flag.stop():
                say("stopped; run the same command again to go on")
            return flag.exit_code

    def _batch_engine(self, engine: TextEngine) -> BatchEngine:
        from llama_core.engine.batch.scheduler import BatchEngine
        from llama_core.memory import available_bytes

        budget = min(DEFAULT_KV_BUDGET, available_bytes() // 4)
        if self.args.kv_budget:
            budget = self.args.kv_budget * MIB
        return BatchEngine(
            engine.model,
            kv_budget_bytes=budget,
            ctx_size=engine.ctx_size,
            max_sequences=self.args.max_batch,
        )

    def _computation(self, engine: TextEngine, batch: BatchEngine) -> Computation:
        # Where "auto" fell back on NumPy, the cache is in float32 whatever was asked for.
        kv = (self.settings.kv or DEFAULT_KV) if engine.backend.startswith("jit") else "f32"
        return Computation(engine.backend, kv, batch.ctx_size)

    def _judged(self, lines: Iterator[Line]) -> Iterator[JudgedLine]:
        return judge(lines, self.output, self.identity, retry_failed=self.args.retry_failed)

    def _requests(self, engine: TextEngine, stopped: Callable[[], bool]) -> Iterator[TextRequest]:
        """What is to be answered, read as there is room; what cannot even be encoded fails on the way."""
        from chat_app.engines.local import advised_values
        from llama_core.engine.batch.text import TextRequest
        from llama_core.errors import LlamaCoreError

        advice = advised_values(engine.checkpoint)
        for judged in self._judged(self.source.again()):
            job = judged.item
            if stopped():
                return
            if judged.state != "open" or isinstance(job, BadLine):
                continue
            try:
                ids = prompt_ids(job, engine)
            except LlamaCoreError as error:  # the template refuses it
                self._append(failure_record(job, self.identity, error))
                continue
            self.jobs[job.custom_id] = job
            yield TextRequest(job.custom_id, ids, as_advised(job.params, job.given, advice))

    def _take(self, result: TextResult, model: str, computation: Computation) -> None:
        """Write down how a request ended."""
        job = self.jobs.pop(result.key)
        if result.reason == "failed":
            self._append(failure_record(job, self.identity, result.error))
            return
        self.answered += 1
        self.answered_tokens += result.prompt_n + result.reply_n
        created = int(time.time())
        self._append(answer_record(job, self.identity, computation, result, model=model, created=created))

    def _append(self, record: Mapping[str, Any]) -> None:
        self.output.append(record)
        self.finished += 1
        self.failed += record["error"] is not None


def prompt_ids(job: BatchJob, engine: TextEngine) -> list[int]:
    """The prompt of a job in the model's tokens. Raises TemplateError."""
    if job.messages is not None:
        return engine.encode_chat(job.messages)
    if isinstance(job.prompt, str):
        return engine.encode_raw(job.prompt)
    return list(job.prompt or ())
