"""`llama-chat batch IN.jsonl OUT.jsonl`: answer a file of requests in OpenAI's batch format."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.batch_format import BadLine, BatchJob, error_line, parse_job, result_line
from chat_app.commands.batch_output import BatchOutput, OutputError
from chat_app.commands.batch_progress import BatchProgress, BatchState
from chat_app.line.console import say
from chat_app.options import UsageError, add_model_options, settings_from
from chat_app.paths import get_paths

if TYPE_CHECKING:
    from llama_core.engine.batch import BatchEngine
    from llama_core.engine.batch_text import TextRequest, TextResult
    from llama_core.engine.text import TextEngine

MIB = 1 << 20
DEFAULT_KV_BUDGET = 1024 * MIB


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "batch",
        help="answer a file of requests",
        description="Answer every line of IN (OpenAI's batch format, /v1/chat/completions or "
        "/v1/completions) and append the results to OUT, each on disk as soon as it is done. Run the same "
        "command again after an interruption: what OUT holds is not computed again. A line that cannot be "
        "run becomes an error line. Exit code 1 when any line failed.",
    )
    parser.add_argument("input", type=Path, metavar="IN.jsonl")
    parser.add_argument("output_file", type=Path, metavar="OUT.jsonl")
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
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_model_options(parser)
    return parser


def positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return value


def run(args: argparse.Namespace) -> int:
    source = args.input.expanduser()
    if not source.is_file():
        raise UsageError(f"there is no file {source}")
    if args.output_file.expanduser().resolve() == source.resolve():
        raise UsageError("IN and OUT are the same file")
    try:
        output = BatchOutput(args.output_file, get_paths().state / "batch")
    except OutputError as error:
        raise UsageError(str(error)) from None
    try:
        if output.repaired_bytes:
            say(f"{output.path}: a result cut short by an interruption was removed; it is computed again")
        return BatchRun(args, source, output).run()
    finally:
        output.close()


class BatchRun:
    """One run of the command over an open output."""

    def __init__(self, args: argparse.Namespace, source: Path, output: BatchOutput) -> None:
        self.args, self.source, self.output = args, source, output
        self.total = sum(1 for _ in self._lines())
        self.before = self.total - sum(1 for _ in self._unfinished())
        self.done = 0
        self.jobs: dict[str, BatchJob] = {}  # under way
        self.progress = BatchProgress(quiet=args.quiet)

    def run(self) -> int:
        from chat_app.line.engine_start import started_engine
        from chat_app.line.interrupt import stop_on_signals

        if self.before >= self.total:
            say(f"nothing to do: {self.output.path} holds all {self.total:,} results")
            return int(self.output.failed_n > 0)
        with started_engine(settings_from(self.args)) as (engine, path, _), stop_on_signals() as flag:
            from llama_core.engine.batch_text import run_texts

            batch = self._batch_engine(engine)
            started = time.monotonic()

            def state() -> BatchState:
                return BatchState(
                    self.total,
                    self.before,
                    self.done,
                    self.output.failed_n,
                    batch.tokens_drawn,
                    batch.running_n,
                    time.monotonic() - started,
                )

            results = run_texts(
                batch,
                engine.tokenizer,
                self._requests(engine),
                flag.stop,
                lambda: self.progress.show(state()),
            )
            for result in results:
                self._write(result, path.name)
            self.progress.finish(state())
            if flag.stop():
                say("stopped; run the same command again to go on")
                return flag.exit_code
        if self.output.failed_n:
            failed = f"{self.output.failed_n:,} of {self.total:,} lines failed"
            say(f"{failed}; see their error in {self.output.path}")
        return int(self.output.failed_n > 0)

    def _batch_engine(self, engine: TextEngine) -> BatchEngine:
        from llama_core.engine.batch import BatchEngine
        from llama_core.system_memory import available_bytes

        budget = min(DEFAULT_KV_BUDGET, available_bytes() // 4)
        if self.args.kv_budget:
            budget = self.args.kv_budget * MIB
        return BatchEngine(
            engine.model,
            kv_budget_bytes=budget,
            ctx_size=engine.ctx_size,
            max_sequences=self.args.max_batch,
        )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number from 1, line) of every line that is not blank."""
        with self.source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line

    def _unfinished(self) -> Iterator[tuple[int, BatchJob | BadLine]]:
        """What earlier runs left: jobs without a result, and bad lines that were not reported yet."""
        seen: set[str] = set()
        for number, line in self._lines():
            try:
                job = parse_job(line)
                if job.custom_id in seen:
                    raise BadLine(f"custom_id {job.custom_id!r} occurs twice", job.custom_id)
            except BadLine as error:
                if number not in self.output.bad_lines:
                    yield number, error
                continue
            seen.add(job.custom_id)
            if job.custom_id not in self.output.done:
                yield number, job

    def _requests(self, engine: TextEngine) -> Iterator[TextRequest]:
        """What is still to be answered, read as there is room; bad lines are reported on the way."""
        from llama_core.engine.batch_text import TextRequest
        from llama_core.errors import LlamaCoreError

        for number, job in self._unfinished():
            if isinstance(job, BadLine):
                self._report(job, number)
                continue
            try:
                ids = prompt_ids(job, engine)
            except LlamaCoreError as error:  # the template refuses it
                self._report(BadLine(str(error), job.custom_id), number)
                continue
            self.jobs[job.custom_id] = job
            yield TextRequest(job.custom_id, ids, job.params)

    def _report(self, error: BadLine, number: int) -> None:
        message = f"line {number}: {error}"
        self.output.append(error_line(error.custom_id, "invalid_request_error", message, number))
        self.done += 1

    def _write(self, result: TextResult, model: str) -> None:
        job = self.jobs.pop(result.key)
        if result.reason == "failed":
            record = failed_line(job.custom_id, result)
        else:
            record = result_line(
                job,
                model=model,
                created=int(time.time()),
                text=result.text,
                finish_reason="stop" if result.reason == "stop" else "length",
                prompt_n=result.prompt_n,
                reply_n=result.reply_n,
            )
        self.output.append(record)
        self.done += 1


def prompt_ids(job: BatchJob, engine: TextEngine) -> list[int]:
    """The prompt of a job in the model's tokens. Raises TemplateError."""
    if job.messages is not None:
        return engine.encode_chat(job.messages)
    if isinstance(job.prompt, str):
        return engine.encode_raw(job.prompt)
    return list(job.prompt or ())


def failed_line(custom_id: str, result: TextResult) -> dict[str, Any]:
    """The record of a request that was sound but could not be answered; it counts as done."""
    from llama_core.errors import ContextFullError, NotEnoughMemoryError

    codes = {ContextFullError: "context_length_exceeded", NotEnoughMemoryError: "kv_budget_exceeded"}
    code = next((name for kind, name in codes.items() if isinstance(result.error, kind)), "server_error")
    return error_line(custom_id, code, str(result.error), None)
