"""`llama-chat lab`: the experiments behind every claim about speed, on this machine."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.bench import native_blas
from chat_app.commands.options import add_output_option, add_setting, file_path
from chat_app.config.paths import get_paths
from chat_app.console.streams import say, write
from chat_app.files.durable import replace_content
from chat_app.lab.text import columns, fold
from chat_app.text.errors import UsageError
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from llama_core.profiling.lab.experiment import Experiment
    from llama_core.profiling.lab.records import Record

DEFAULT_BUDGET_S = 2.0
# More changes nothing: a row takes at most 40 pairs, however long its budget.
MAX_BUDGET_S = 3600.0
# So many lines of a damaged results file are named one by one.
NAMED_LINES = 5


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """One parser each to list the experiments, to run them, and to report."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lab",
        help="run the experiments behind the claims about speed",
        description="Each experiment states a hypothesis and measures before and after in turn. Results are "
        "added to a file in the data folder (see `llama-chat paths`).",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the experiments and their hypotheses")
    run = actions.add_parser("run", help="run experiments by name, or all")
    run.add_argument("names", nargs="+", metavar="NAME|all")
    add_setting(run, "model", help="the model for rows on a real one")
    run.add_argument(
        "--budget",
        type=seconds,
        default=DEFAULT_BUDGET_S,
        metavar="S",
        help="seconds meant for one row, all its processes together (default 2); more narrows the intervals",
    )
    add_setting(
        run,
        "threads",
        help="threads for all but the rows about threads; 1 gives steadier ratios on a busy machine",
    )
    run.add_argument(
        "--tokenizer",
        type=file_path,
        metavar="FILE",
        help="a vocabulary with scores for the tokeniser's rows: llama2.c's .bin or llama3.np's .model.np",
    )
    run.add_argument(
        "--output-file", type=file_path, metavar="FILE", help="also write the run's results here"
    )
    report = actions.add_parser("report", help="results as Markdown")
    report.add_argument("file", nargs="?", type=file_path, help="a results file (default: the data folder's)")
    form = report.add_mutually_exclusive_group()
    form.add_argument(
        "--full", action="store_true", help="every row with its min and max, not only the telling ones"
    )
    form.add_argument(
        "--readme", type=file_path, metavar="FILE", help="put the findings between this file's markers"
    )
    for one in (listing, run, report):
        add_output_option(one)
    return parser


def seconds(text: str) -> float:
    """An argparse type: a time that can be spent on a row."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_BUDGET_S:  # NaN fails, too
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0, up to {MAX_BUDGET_S:,.0f}"
        )
    return value


def run(args: argparse.Namespace) -> int:
    """List, run or report; returns the exit code."""
    return {"list": show_list, "run": run_experiments, "report": show_report}[args.action](args)


def registry() -> list[Experiment]:
    """Every experiment, the screen's included."""
    from chat_app.lab import screen_cost as lab_screen
    from llama_core.profiling.lab.experiments.registry import experiments

    return sorted([*experiments(), lab_screen.EXPERIMENT], key=lambda experiment: experiment.number)


def show_list(args: argparse.Namespace) -> int:
    """Print each experiment's hypothesis, and what would refute it."""
    if args.output == "json":
        told = ("number", "name", "title", "hypothesis", "refuted_if")
        write(
            json.dumps([{key: getattr(one, key) for key in told} for one in registry()], indent=2), end="\n"
        )
        return 0
    lines = []
    width = columns()
    for experiment in registry():
        lines += [
            fold(f"{experiment.number:>2}  {experiment.name:<12} {experiment.title}", width, 0),
            fold(f"hypothesis: {experiment.hypothesis}", width, 4),
            fold(f"refuted if: {experiment.refuted_if}", width, 4),
        ]
    write("\n".join(lines), end="\n")
    return 0


def choose(names: list[str]) -> list[Experiment]:
    """The experiments named (by name or number), in their own order. Raises UsageError for an unknown one."""
    known = registry()
    unknown = [n for n in names if n != "all" and not any(n in (e.name, str(e.number)) for e in known)]
    if unknown:
        raise UsageError(unknown_text(unknown, [e.name for e in known]))
    return [e for e in known if "all" in names or e.name in names or str(e.number) in names]


def unknown_text(unknown: Sequence[str], known: Sequence[str]) -> str:
    """Which names are not there, what may have been meant, and what there is."""
    sentences = []
    for name in unknown:
        close = difflib.get_close_matches(name.lower(), [*known, "all"])
        meant = f"; did you mean {' or '.join(close)}?" if close else "."
        sentences.append(f'There is no experiment "{clean_line(name, 40)}"{meant}')
    return " ".join([*sentences, f"There are {', '.join(known)}, and all."])


def run_experiments(args: argparse.Namespace) -> int:
    """Run those named; returns the exit code. NumPy is told its BLAS before it is imported."""
    native_blas()  # before the experiments load NumPy
    from chat_app.lab import run as lab_run

    return lab_run.run(args, choose(args.names))


def show_report(args: argparse.Namespace) -> int:
    """Print the findings, or put them into a README between their marks. Raises UsageError."""
    from llama_core.profiling.lab import report
    from llama_core.profiling.lab.records import to_json

    if args.output == "json" and args.readme is not None:
        raise UsageError("--readme puts Markdown into a file; --output json goes without it")
    path = args.file or get_paths().lab_results
    records = read_results(path)
    if args.output == "json":
        write(to_json(records))
        return 0
    if args.readme is None:
        write(report.full(records) if args.full else report.findings(records))
        return 0
    readme = args.readme
    try:
        # Bytes, because the lines' ends must stay as they are.
        text = report.put_into(readme.read_bytes().decode("utf-8"), report.findings(records))
    except UnicodeDecodeError:
        raise UsageError(f"{readme} is no text in UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{readme}: {error}") from None
    replace_content(readme, text)
    say(f"{readme}: findings of {len(records)} experiments")
    return 0


def read_results(path: Path) -> list[Record]:
    """The latest results of each experiment; lines that hold none are named. Raises UsageError, OSError."""
    from llama_core.profiling.lab.records import latest, read_records

    if not path.exists():
        raise UsageError(f"there are no results at {path}; `llama-chat lab run all` makes some")
    if not path.is_file():
        raise UsageError(f"{path} is no ordinary file; results are one")
    records, passed_over = read_records(path)
    for sentence in passed_over[:NAMED_LINES]:
        say(sentence)
    if len(passed_over) > NAMED_LINES:
        say(f"{len(passed_over) - NAMED_LINES} more lines of {path} are passed over")
    if not records:
        raise UsageError(f"{path} holds no results")
    return latest(records)
