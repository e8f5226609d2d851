"""`llama-chat lab run`: experiments in turn, each on disk as soon as it has ended, whole or not."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.commands.options import settings_from
from chat_app.config.paths import ensure_dir, get_paths
from chat_app.console.interrupt import EndSignal, name_of, signal_of, signals_raise
from chat_app.console.streams import say, write
from chat_app.files.durable import AppendFile, why_unwritable
from chat_app.lab.text import columns, fold, row_text, run_table
from chat_app.text.errors import UsageError, describe_error
from chat_app.text.formatting import duration

if TYPE_CHECKING:
    from llama_core.profiling.lab.experiment import Experiment, LabContext
    from llama_core.profiling.lab.records import Record

STOPPED = "stopped by "
Tell = Callable[[str], None]  # takes a text for people, without its end


class ResultFiles:
    """Where a run's records go: the data folder's file and, if one is given, a file of their own.

    Both are tried at once, so that nobody measures for minutes what cannot be kept. Raises UsageError for a
    place that takes no file, OSError where the data folder cannot be made.
    """

    def __init__(self, output_file: Path | None) -> None:
        self.path = get_paths().lab_results
        ensure_dir(self.path.parent)
        check_place(self.path)
        self.output_file = output_file
        if self.output_file is not None:
            if self.output_file.resolve() == self.path.resolve():
                raise UsageError(f"--output-file {self.path}: all results are added there anyway")
            check_place(self.output_file)
        self.kept: list[Record] = []

    def keep(self, record: Record) -> None:
        """Put a record that has rows on disk. Raises OSError."""
        from llama_core.profiling.lab.records import to_line

        if not record.rows:
            return
        AppendFile(self.path).append(to_line(record).encode())
        self.kept.append(record)
        if self.output_file is not None:
            text = "".join(to_line(one) for one in self.kept)
            self.output_file.write_text(text, encoding="utf-8")

    def rows_n(self) -> int:
        """Rows of this run's records so far."""
        return sum(len(record.rows) for record in self.kept)


def check_place(path: Path) -> None:
    """Raises UsageError for a place that takes no results."""
    problem = why_unwritable(path)
    if problem is not None:
        raise UsageError(problem)


def run(args: argparse.Namespace, chosen: Sequence[Experiment]) -> int:
    """Returns 0, 1 where an experiment broke off, 130 after Ctrl+C, 143 and 129 after SIGTERM and SIGHUP.

    With `--output json` what was kept goes to stdout at the end, however that comes, and all that is for
    people to stderr.
    """
    from llama_core.blas import BlasThreads
    from llama_core.profiling.lab.records import to_json
    from llama_core.profiling.machine import describe_machine, machine_lines

    files = ResultFiles(args.output_file)
    context = lab_context(args)
    tell = say if args.output == "json" else write_line
    blas = BlasThreads(args.threads)
    for line in machine_lines(describe_machine(args.threads)):
        tell(fold(line, columns(), 0))
    started = time.monotonic()
    try:
        with signals_raise(EndSignal):
            broken = run_each(chosen, context, files, tell)
    except KeyboardInterrupt as stop:
        # From here on a second Ctrl+C ends the program at once, whatever it still waits for.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        say(f"\n{stopped_text(stop, files)}")
        return 128 + signal_of(stop)
    finally:
        blas.restore()
        if args.output == "json":
            write(to_json(files.kept))
    if len(files.kept) > 1:
        tell("\n" + run_table(files.kept, columns()).rstrip("\n"))
    plural = "s" if len(chosen) > 1 else ""
    took = duration(time.monotonic() - started)
    tell(f"\n{len(chosen)} experiment{plural}, {files.rows_n()} rows in {took}")
    say(f"results: {files.path}")
    say("report: `llama-chat lab report`, or with --full every row")
    return int(broken > 0)


def run_each(chosen: Sequence[Experiment], context: LabContext, files: ResultFiles, tell: Tell) -> int:
    """Run, keep and tell of one experiment after the other; returns how many broke off.

    Raises KeyboardInterrupt after Ctrl+C (EndSignal after SIGTERM or SIGHUP), when the rows that were done
    are kept.
    """
    from llama_core.profiling.lab.records import now_utc, to_record
    from llama_core.profiling.lab.runner import run_experiment
    from llama_core.profiling.machine import describe_machine

    begun = now_utc()
    broken = 0
    for experiment in chosen:
        tell(f"\n{experiment.number}. {experiment.title}")
        machine = describe_machine(context.threads)
        outcome = run_experiment(
            experiment,
            context,
            lambda row: tell(row_text(row, columns())),
            lambda number, n: tell(f"  (process {number} of {n})"),
        )
        why = outcome.broken_by
        incomplete = ""
        if isinstance(why, KeyboardInterrupt):
            incomplete = STOPPED + name_of(why)
        elif why is not None:
            incomplete = f"broke off: {describe_error(why)}"
        files.keep(to_record(outcome, machine, incomplete=incomplete, run=begun))
        if isinstance(why, KeyboardInterrupt):
            raise why
        for sentence in outcome.conclusions:
            tell(fold(sentence, columns(), 2))
        tell(f"  ({duration(outcome.elapsed_s)})")
        if incomplete:
            say(f"{experiment.name} {incomplete}")
            broken += 1
    return broken


def stopped_text(stop: KeyboardInterrupt, files: ResultFiles) -> str:
    """What an end before the end leaves behind."""
    stopped = STOPPED + name_of(stop)
    if not files.kept:
        return f"{stopped} before the first row was done: nothing is saved"
    parts = []
    whole = [record.name for record in files.kept if not record.incomplete.startswith(STOPPED)]
    if whole:
        parts.append(f"{len(whole)} experiment{'s' if len(whole) > 1 else ''} ({', '.join(whole)})")
    for record in files.kept:
        if record.incomplete.startswith(STOPPED):
            n = len(record.rows)
            parts.append(f"{n} row{'s' if n > 1 else ''} of {record.name}, marked as incomplete")
    return f"{stopped}; saved in {files.path}: {' and '.join(parts)}"


def lab_context(args: argparse.Namespace) -> LabContext:
    """Where the model is, if it is here: the laboratory fetches nothing."""
    from chat_app.models.catalogue import ModelNotFound, resolve_model
    from llama_core.profiling.lab.experiment import LabContext

    try:
        path = resolve_model(settings_from(args).model)
    except ModelNotFound as error:
        say(f"Rows on a real model are left out: {error}")
        path = None
    return LabContext(path, get_paths().kernels, args.threads, args.budget, args.tokenizer)


def write_line(text: str) -> None:
    """What a person sees of a run, on stdout."""
    write(text, end="\n")
