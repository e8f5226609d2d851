"""`llama-chat paths`: where everything is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from chat_app.commands.options import add_output_option
from chat_app.config.paths import get_paths
from chat_app.console.streams import write

SHOWN = (
    "config_file",
    "presets",
    "database",
    "log_file",
    "models",
    "kernels",
    "kv_files",
    "bench_models",
    "lab_results",
)


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """It takes only `--output`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "paths",
        help="print the folders and files the app uses",
        description="Print where everything is kept.",
    )
    add_output_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print each place with its name, whether it exists yet or not."""
    paths = get_paths()
    values = {name: str(getattr(paths, name)) for name in SHOWN}
    if args.output == "json":
        write(json.dumps(values, indent=2), end="\n")
        return 0
    for name, value in values.items():
        write(f"{name:<15} {value}\n")
    return 0
