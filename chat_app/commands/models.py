"""`llama-chat models`: what is here, what can be fetched, what a file holds."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_app.commands.options import add_output_option, file_path
from chat_app.config.sources import load_settings
from chat_app.console.streams import ProgressLine, is_terminal, say, write
from chat_app.models.catalogue import remove_model, resolve_model
from chat_app.text.errors import SentenceError
from chat_app.text.formatting import memory
from chat_app.text.sanitize import clean_line

MAX_LINE = 2000
TYPES = ("q8_0", "q4_0", "q4_1", "f16", "f32")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """One parser for each thing that is done with models."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "models", help="list, fetch, inspect, convert and remove models"
    )
    commands = parser.add_subparsers(dest="models_command", metavar="COMMAND", required=True)
    add_output_option(commands.add_parser("list", help="models here, and those that can be fetched"))
    pull = commands.add_parser("pull", help="fetch a model, or go on with a download that broke")
    pull.add_argument("name", metavar="NAME|hf:OWNER/REPO[:TYPE]")
    pull.add_argument(
        "--anyway", action="store_true", help="also a model that does not run here, or is too large"
    )
    show = commands.add_parser("show", help="whether a model runs here, and how fast, before it is fetched")
    show.add_argument("name", metavar="NAME|FILE|hf:OWNER/REPO[:TYPE]")
    path = commands.add_parser("path", help="print where a model's file is")
    path.add_argument("name", metavar="NAME")
    remove = commands.add_parser("remove", help="delete a downloaded model")
    remove.add_argument("name", metavar="NAME")
    inspect = commands.add_parser("inspect", help="print what a model file holds")
    inspect.add_argument("file", metavar="NAME|FILE")
    convert = commands.add_parser("convert", help="write a model as GGUF with other tensor types")
    convert.add_argument("source", metavar="SRC")
    convert.add_argument("target", metavar="DST.gguf", type=file_path)
    convert.add_argument("--type", choices=TYPES, default="q8_0", help="the type of the large tensors")
    convert.add_argument(
        "--tokenizer", type=file_path, metavar="FILE", help="a tokenizer file that is not beside the model"
    )
    for one in (pull, show, path, remove, inspect, convert):
        add_output_option(one)
    return parser


def write_path(path: Path, output: str) -> None:
    """A model's file or folder as the result of a command."""
    write(json.dumps({"path": str(path)}) if output == "json" else str(path), end="\n")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns 0. What goes wrong is raised, as a sentence for the user."""
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "list": list_models,
        "pull": pull_model,
        "show": show_model,
        "path": lambda args: write_path(resolve_model(args.name), args.output),
        "remove": remove,
        "inspect": inspect_model,
        "convert": convert_model,
    }
    commands[args.models_command](args)
    return 0


def list_models(args: argparse.Namespace) -> None:
    """Print the models here, and those that can be fetched; as JSON or as a table."""
    from chat_app.commands.model_table import table_lines
    from chat_app.models.listing import all_models

    progress = ProgressLine("Reading headers")
    try:
        models = all_models(progress.count)
    finally:
        progress.close()
    engines = load_settings().engines
    if args.output == "json":
        rows = [model.to_json() for model in models]
        rows += [{"name": name, "source": "remote", "host": one.host} for name, one in engines.items()]
        write(json.dumps(rows, indent=2), end="\n")
        return
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    for line in table_lines(models, width):
        write(line, end="\n")
    for name, endpoint in engines.items():
        write(f"{name}  remote, {clean_line(endpoint.host)}", end="\n")


def pull_model(args: argparse.Namespace) -> None:
    """Fetch a model behind a line of progress, and print its path. Raises SentenceError for one that would
    not run, unless the user wants it all the same."""
    from chat_app.models.download.pull import look, pull
    from chat_app.models.outlook import Outlooks

    found = look(args.name)
    if found is not None:
        outlook = Outlooks().of_remote(found.facts)
        about = f"{args.name}: {memory(found.nbytes)} to fetch. {outlook.sentence}"
        if not args.anyway and (outlook.why_not or not outlook.fits):
            raise SentenceError(f"{about} Fetch it all the same with: --anyway")
        say(about)
    line = ProgressLine("fetching")
    try:
        path = pull(args.name, line.show)
    finally:
        line.close()
    write_path(path, args.output)


def show_model(args: argparse.Namespace) -> None:
    """Print what a model is and whether it runs here; of one that is elsewhere the header alone is read."""
    from chat_app.models.download.pull import look
    from chat_app.models.facts import facts_of
    from chat_app.models.installed import LocalModel
    from chat_app.models.listing import Listed
    from chat_app.models.outlook import Outlooks

    found = look(args.name)
    if found is not None:
        outlook = Outlooks().of_remote(found.facts)
        model = Listed(args.name, found.nbytes, "can be fetched", found.facts, outlook)
    else:
        path = resolve_model(args.name)
        files = () if path.is_dir() else (path,)
        nbytes = sum(file.stat().st_size for file in files or path.iterdir() if file.is_file())
        facts = facts_of([LocalModel(args.name, path, nbytes, files=files)])[path]
        model = Listed(args.name, nbytes, "here", facts, Outlooks().of(path, facts), path)
    if args.output == "json":
        write(json.dumps(model.to_json(), indent=2), end="\n")
        return
    about = ", ".join(filter(None, (model.kind, memory(model.nbytes), model.about)))
    for line in (f"{model.name}: {about}", model.facts.problem or model.outlook.sentence):
        write(clean_line(line, MAX_LINE), end="\n")


def remove(args: argparse.Namespace) -> None:
    """Delete a downloaded model; the files removed are told on stderr, or on stdout as JSON."""
    removed = remove_model(args.name)
    for path in removed:
        say(f"Removed {path}")
    if args.output == "json":
        write(json.dumps({"removed": [str(path) for path in removed]}), end="\n")


def inspect_model(args: argparse.Namespace) -> None:
    """Print what a file holds: shapes, tensors, tokenizer, and the memory that it needs."""
    from llama_core.loaders.inspect import inspect
    from llama_core.memory_needed import memory_needed

    report = inspect(resolve_model(args.file), memory_needed)
    if args.output == "json":
        write(json.dumps(report, indent=2, default=str), end="\n")
        return
    for line in report_lines(report):
        write(line, end="\n")


def report_lines(value: Any, name: str = "", indent: int = 0) -> list[str]:
    """A nested report as indented lines; long texts and lists are shortened."""
    space = "  " * indent
    if isinstance(value, dict):
        lines = [f"{space}{name}:"] if name else []
        for key, item in value.items():
            lines += report_lines(item, str(key), indent + bool(name))
        return lines
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        lines = [f"{space}{name}:"]
        for item in value:
            row = ", ".join(f"{key} {shorten(part)}" for key, part in item.items())
            lines.append(f"{space}  {row}")
        return lines
    return [f"{space}{name}: {shorten(value)}"]


def shorten(value: Any, limit: int = 200) -> str:
    """One line of at most `limit` characters; numbers with their thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = " ".join(str(value).split())
        return text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def convert_model(args: argparse.Namespace) -> None:
    """Write a model as GGUF with other tensor types, and print the new file's path."""
    from llama_core.loaders.convert import convert

    progress = ProgressLine("Converting")
    try:
        convert(
            resolve_model(args.source),
            args.target,
            args.type,
            tokenizer_path=args.tokenizer,
            on_progress=progress.count,
        )
    finally:
        progress.close()
    write_path(args.target, args.output)
