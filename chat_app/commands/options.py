"""The options that several commands share, made from the table of settings, and how they become Settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.config.settings import BY_NAME, SETTINGS, Group
from chat_app.text.errors import UsageError
from chat_app.text.paths import read_path
from llama_core.constraints.grammar import GRAMMAR_KINDS

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

OUTPUTS = ("text", "json")


class CommandParser(argparse.ArgumentParser):
    """A parser that takes no option by its beginning, and neither do those of the commands below it: where
    there is no `--output`, it must not become `--output-file`."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **keywords})


class _Choose(argparse.Action):
    """Keeps what was given apart from what was not, so that `--threads auto` beats a number in the file."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        value = self.const if self.nargs == 0 else values
        setattr(namespace, self.dest, value)
        namespace.chosen = {**getattr(namespace, "chosen", {}), self.dest: value}


def add_setting(parser: argparse._ActionsContainer, name: str, *, help: str = "") -> None:
    """The flags of the setting `name`, read as elsewhere. `help`: where it means something more."""
    row = BY_NAME[name]

    def read(text: str) -> Any:
        try:
            return row.kind.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    if row.flags[-1].startswith("--no-"):
        parser.add_argument(
            *row.flags, action=_Choose, nargs=0, const=False, dest=row.name, help=help or row.help
        )
    else:
        parser.add_argument(
            *row.flags,
            action=_Choose,
            type=read,
            metavar=row.metavar or row.kind.metavar,
            dest=row.name,
            help=help or row.help,
        )


def add_settings(parser: argparse._ActionsContainer, group: Group) -> None:
    """The flags of all settings of `group` that have any."""
    for row in SETTINGS:
        if row.group == group and row.flags:
            add_setting(parser, row.name)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it computes."""
    add_settings(parser.add_argument_group("model"), "model")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How a reply is drawn."""
    group = parser.add_argument_group("reply")
    preset = group.add_argument(
        "--preset",
        metavar="NAME",
        help="the settings saved under this name with /preset; flags and -o go before them",
    )
    preset.completer = lambda **_: _preset_names()  # type: ignore[attr-defined]
    group.add_argument(
        "-o",
        "--option",
        nargs=2,
        action="append",
        default=[],
        dest="parameters",
        metavar=("NAME", "VALUE"),
        help="a parameter, such as `-o temperature 0`; may be repeated",
    )
    add_settings(group, "sampling")


def _preset_names() -> list[str]:
    from chat_app.config.presets import preset_names

    return preset_names()


def add_output_option(parser: argparse.ArgumentParser, outputs: tuple[str, ...] = OUTPUTS) -> None:
    """`--output`, with "text" as what holds without it."""
    parser.add_argument("--output", choices=outputs, default="text", help="how results are written")


def settings_from(args: argparse.Namespace) -> Settings:
    """Settings from parsed flags over environment and file. Raises UsageError for a bad `-o` or flag."""
    from chat_app.config.sources import load_settings

    flags = getattr(args, "chosen", {})
    held = [f"--{kind}" for kind in GRAMMAR_KINDS if flags.get(kind) is not None]
    if len(held) > 1:
        raise UsageError(f"{' and '.join(held)} exclude each other: a reply is held to one of them.")
    try:
        return load_settings(flags, getattr(args, "parameters", ()), getattr(args, "preset", None))
    except ValueError as error:
        raise UsageError(str(error)) from None


def file_path(text: str) -> Path:
    """A path with its `~` expanded, for argparse."""
    try:
        return read_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """A number from 1 up, for argparse."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return value
