"""`llama-chat batch IN.jsonl OUT.jsonl`: answer a file of requests in OpenAI's batch format."""

from __future__ import annotations

import argparse
from typing import Any

from chat_app.batch.here import MIB, Bounds, EngineHere
from chat_app.batch.input import BatchInput
from chat_app.batch.output import BatchOutput, OutputError
from chat_app.batch.run import BatchRun, Means
from chat_app.commands.options import add_model_options, file_path, positive, settings_from
from chat_app.config.endpoints import find_endpoints
from chat_app.config.paths import get_paths
from chat_app.console.streams import say
from chat_app.text.errors import UsageError


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
        "--engine",
        metavar="NAME|URL[,...]",
        help="ask a server of OpenAI's API, an engine of the config or a URL (http://host:8000/v1#model); "
        "several share the work, and one that fails hands its lines to the others",
    )
    parser.add_argument(
        "--concurrency",
        type=positive,
        metavar="N",
        help="with --engine: the most requests at once for each server (default: grows while it helps)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the model on a Ray cluster (`auto`, `local` or HOST:PORT), an engine on each node",
    )
    parser.add_argument(
        "--cores",
        type=positive,
        metavar="N",
        help="with --ray: the cores of an engine (default: all of a node)",
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
    """Answer IN into OUT; the exit code. Raises UsageError where the two are the same, or OUT is unfit."""
    from llama_core.engine.clock import RunningTime

    source = BatchInput(args.input)
    if args.output_file.resolve() == source.path.resolve():
        raise UsageError("IN and OUT are the same file")
    means = _means(args)
    try:
        output = BatchOutput(args.output_file, get_paths().state / "batch")
    except OutputError as error:
        raise UsageError(str(error)) from None
    try:
        if output.repaired_bytes:
            say(f"{output.path}: a result cut short by an interruption was removed; it is computed again")
        clock = RunningTime()  # a batch that was stopped and went on is not slower for it
        options = {"retry_failed": args.retry_failed, "quiet": args.quiet, "clock": clock}
        return BatchRun(source, output, means, **options).run()
    except OutputError as error:
        say(f"{error}.")
        return 1
    finally:
        output.close()


def _means(args: argparse.Namespace) -> Means:
    """What answers: servers where `--engine` or `-m` names some, a cluster, else this machine."""
    settings = settings_from(args)
    bounds = Bounds(args.kv_budget * MIB if args.kv_budget else None, args.max_batch)
    if args.engine and "model" in getattr(args, "chosen", {}):
        raise UsageError("--engine and -m both name what answers; give one of them")
    endpoints = find_endpoints(args.engine or settings.model, settings.engines, must=bool(args.engine))
    if args.ray and endpoints:
        raise UsageError("--ray runs a model of this machine elsewhere; it takes no server")
    if args.cores and not args.ray:
        raise UsageError("--cores is for --ray; --threads is how many this machine computes with")
    if endpoints:
        from chat_app.batch.elsewhere.fleet import Fleet

        for notice in settings.notices:
            say(notice)
        return Fleet(endpoints, most=args.concurrency)
    if args.concurrency:
        raise UsageError("--concurrency is for --engine; --max-batch bounds the requests of this machine")
    if args.ray:
        from chat_app.batch.elsewhere.cluster import Cluster

        return Cluster(settings, bounds, args.ray, args.cores)
    return EngineHere(settings, bounds)
