"""`llama-chat lab`: the experiments behind every claim about speed, on this machine."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.bench import native_blas
from chat_app.error_text import describe_error
from chat_app.line.console import say, write
from chat_app.options import UsageError, settings_from
from chat_app.paths import ensure_dir, get_paths

if TYPE_CHECKING:
    from llama_core.profiling.experiment import Experiment, LabContext, Row

DEFAULT_BUDGET_S = 3.0


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lab",
        help="run the experiments behind the claims about speed",
        description="Each experiment states a hypothesis and measures before and after in turn. Results are "
        "added to a file in the data folder (see `llama-chat paths`).",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="the experiments and their hypotheses")
    run = actions.add_parser("run", help="run experiments by name, or all")
    run.add_argument("names", nargs="+", metavar="NAME|all")
    run.add_argument("-m", "--model", metavar="NAME|FILE", help="the model for rows on a real one")
    run.add_argument(
        "--budget",
        type=float,
        default=DEFAULT_BUDGET_S,
        metavar="S",
        help="seconds meant for one row (default 3); more narrows the intervals",
    )
    run.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads for all but the rows about threads; 1 gives steadier ratios on a busy machine",
    )
    run.add_argument("--output-file", type=Path, metavar="FILE", help="also write the run's results here")
    report = actions.add_parser("report", help="results as Markdown")
    report.add_argument("file", nargs="?", type=Path, help="a results file (default: the data folder's)")
    report.add_argument("--full", action="store_true", help="every row, not only the telling ones")
    report.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the findings between this file's markers"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    return {"list": show_list, "run": run_experiments, "report": show_report}[args.action](args)


def registry() -> list[Experiment]:
    """Every experiment, the screen's included."""
    from chat_app.commands import lab_screen
    from llama_core.profiling.experiments.registry import experiments

    return sorted([*experiments(), lab_screen.EXPERIMENT], key=lambda experiment: experiment.number)


def show_list(args: argparse.Namespace) -> int:
    lines = []
    for experiment in registry():
        lines += [
            f"{experiment.number:>2}  {experiment.name:<12} {experiment.title}",
            f"    hypothesis: {experiment.hypothesis}",
            f"    refuted if: {experiment.refuted_if}",
        ]
    write("\n".join(lines), end="\n")
    return 0


def choose(names: list[str]) -> list[Experiment]:
    """The experiments named (by name or number), in their own order. Raises UsageError for an unknown one."""
    known = registry()
    if "all" in names:
        return known
    unknown = [n for n in names if not any(n in (e.name, str(e.number)) for e in known)]
    if unknown:
        there = ", ".join(experiment.name for experiment in known)
        raise UsageError(f"there is no experiment {', '.join(unknown)}; there are {there}")
    return [e for e in known if e.name in names or str(e.number) in names]


def run_experiments(args: argparse.Namespace) -> int:
    if not args.budget > 0 or (args.threads is not None and args.threads < 1):
        raise UsageError("--budget takes seconds above 0, --threads a number from 1 up.")
    native_blas()
    from llama_core.blas import BlasThreads
    from llama_core.profiling import results
    from llama_core.profiling.machine import describe_machine, machine_lines
    from llama_core.profiling.runner import run_experiment

    chosen = choose(args.names)
    context = lab_context(args)
    blas = BlasThreads(args.threads)
    write("\n".join(machine_lines(describe_machine(args.threads))), end="\n")
    ensure_dir(get_paths().lab_results.parent)
    started = time.monotonic()
    failed = 0
    records = []
    for experiment in chosen:
        write(f"\n{experiment.number}. {experiment.title}\n")
        machine = describe_machine(args.threads)
        outcome = run_experiment(experiment, context, show_row)
        if outcome.broken_by is not None:
            say(f"{experiment.name} broke off: {describe_error(outcome.broken_by)}")
            failed += 1
        for sentence in outcome.conclusions:
            write(f"  {sentence}\n")
        write(f"  ({outcome.elapsed_s:.0f} s)\n")
        records.append(results.to_record(outcome, machine))
        results.append(get_paths().lab_results, records[-1])
    blas.restore()
    if args.output_file is not None:
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        args.output_file.expanduser().write_text(text, encoding="utf-8")
    write(f"\n{len(records)} experiments in {time.monotonic() - started:.0f} s\n")
    say(f"results: {get_paths().lab_results}")
    return int(failed > 0)


def lab_context(args: argparse.Namespace) -> LabContext:
    """Where the model is, if it is here: the laboratory fetches nothing."""
    from chat_app.models import ModelNotFound, resolve_model
    from llama_core.profiling.experiment import LabContext

    try:
        path = resolve_model(settings_from(args).model)
    except ModelNotFound as error:
        say(f"Rows on a real model are left out: {error}")
        path = None
    return LabContext(path, get_paths().kernels, args.threads, args.budget)


def show_row(row: Row) -> None:
    from llama_core.profiling.report import row_cells

    name, before, after, ratio, claim, outputs, verdict = row_cells(row)
    if row.ratio is None:
        write(f"  {name}: {verdict} ({outputs})\n")
    else:
        write(f"  {name}: {before} -> {after}, {ratio}; claim {claim}: {verdict}; outputs {outputs}\n")


def show_report(args: argparse.Namespace) -> int:
    from llama_core.profiling import report, results

    path = args.file.expanduser() if args.file is not None else get_paths().lab_results
    if not path.is_file():
        raise UsageError(f"there are no results at {path}; `llama-chat lab run all` makes some")
    records = results.latest(results.read(path))
    if not records:
        raise UsageError(f"{path} holds no results")
    if args.readme is None:
        write(report.full(records) if args.full else report.findings(records))
        return 0
    readme = args.readme.expanduser()
    try:
        text = report.put_into(readme.read_text(encoding="utf-8"), report.findings(records))
    except ValueError as error:
        raise UsageError(f"{readme}: {error}") from None
    readme.write_text(text, encoding="utf-8")
    say(f"{readme}: findings of {len(records)} experiments")
    return 0
