"""Makes assets/docs/commands.md from the parsers: `uv run python -m tests.support.command_docs` writes it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from chat_app import cli
from chat_app.chat.commands import SLASH
from chat_app.config.settings import SETTINGS

PAGE = Path(__file__).parents[2] / "assets" / "docs" / "commands.md"
HEAD = """# Commands and options

This page is made from the program's own tables; a test keeps it equal to `--help`.
`uv run python -m tests.support.command_docs` writes it anew.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *_of_parser(cli.build_parser(), cli.PROGRAM, 2)]
    for name, (module, _) in cli.COMMANDS.items():
        root = argparse.ArgumentParser(prog=cli.PROGRAM)
        parser = importlib.import_module(module).add_parser(root.add_subparsers())
        parts += _of_parser(parser, f"{cli.PROGRAM} {name}", 2)
    parts += _of_settings()
    parts += ["## In the chat\n", f"{SLASH.markdown().rstrip()}\n"]
    return "\n".join(parts)


def _of_parser(parser: argparse.ArgumentParser, name: str, level: int) -> Iterator[str]:
    """Heading, description and table of a command, then of its own commands."""
    yield f"{'#' * level} `{name}`\n"
    if parser.description:
        yield f"{parser.description}\n"
    rows = []
    inner: list[tuple[str, argparse.ArgumentParser, str]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            inner = [(key, value, helps.get(key, "")) for key, value in action.choices.items()]
        elif not isinstance(action, argparse._HelpAction):
            rows.append(f"| {_written(action)} | {_cell(action.help or '')} |")
    if rows:
        yield "| option | what it does |\n|---|---|\n" + "\n".join(rows) + "\n"
    for key, value, help_text in inner:
        if not value.description:
            value.description = f"{help_text[:1].upper()}{help_text[1:]}."
        yield from _of_parser(value, f"{name} {key}", level + 1)


def _written(action: argparse.Action) -> str:
    """An option as one types it: `-m`, `--model NAME|FILE`."""
    value = ""
    if action.nargs != 0:
        metavar = action.metavar
        if isinstance(metavar, tuple):
            value = " ".join(metavar)
        elif metavar is not None:
            value = metavar
        elif action.choices is not None:
            value = "|".join(str(choice) for choice in action.choices)
        else:
            value = action.dest.upper()
        value = f"[{value}]" if action.nargs in ("?", "*") else value
    if not action.option_strings:
        return f"`{_cell(value)}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings[:-1])
    last = f"`{action.option_strings[-1]}{' ' if value else ''}{_cell(value)}`"
    return f"{names}, {last}" if names else last


def _of_settings() -> Iterator[str]:
    yield "## Settings\n"
    yield (
        "A flag beats an environment variable, which beats `config.toml` "
        "(`llama-chat paths` says where it is).\n"
        "Names that a running chat takes are given to `-o NAME VALUE` and `/set NAME VALUE`.\n"
    )
    rows = [
        f"| `{row.name}` | `{row.variable}` | {'yes' if row.live else 'no'} | {_cell(row.help)} | "
        f"{_cell(row.expected)} |"
        for row in SETTINGS
    ]
    yield (
        "| name | variable | in a running chat | what it is | value |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
