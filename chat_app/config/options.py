"""The options that several commands share, and how they become Settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.config.settings import BACKENDS, KV_TYPES, READERS

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

OUTPUTS = ("text", "json")


class UsageError(Exception):
    """The command line asks for something that cannot be; exit code 2."""


def setting(name: str) -> Any:
    """An argparse type that reads a flag as the setting `name` is read elsewhere."""

    def read(text: str) -> Any:
        try:
            return READERS[name](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it computes."""
    group = parser.add_argument_group("model")
    group.add_argument("-m", "--model", metavar="NAME|FILE", help="a known model, or a model file or folder")
    group.add_argument("--backend", choices=BACKENDS, help="auto: compiled where it can run, else NumPy")
    group.add_argument("--threads", type=setting("threads"), metavar="N", help="threads to compute with")
    group.add_argument(
        "--ctx-size", type=setting("ctx_size"), metavar="N", help="size of the context in tokens"
    )
    group.add_argument(
        "--kv", choices=KV_TYPES, help="how the compiled backend keeps keys and values (default f32)"
    )
    group.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="a tokenizer file that is not beside the model"
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How a reply is drawn."""
    group = parser.add_argument_group("reply")
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
    group.add_argument("--seed", metavar="N", help="the same seed gives the same reply")


def add_output_option(parser: argparse.ArgumentParser, outputs: tuple[str, ...] = OUTPUTS) -> None:
    parser.add_argument("--output", choices=outputs, default="text", help="how results are written")


SETTING_FLAGS = (
    "model",
    "backend",
    "threads",
    "ctx_size",
    "kv",
    "tokenizer",
    "system",
    "theme",
    "seed",
    "parameters",
)


def settings_from(args: argparse.Namespace) -> Settings:
    """Settings from parsed flags over environment and file. Raises UsageError for a bad `-o` or `--seed`."""
    from chat_app.config.settings import load_settings

    flags = {name: getattr(args, name, None) for name in SETTING_FLAGS}
    if getattr(args, "no_save", False):
        flags["save"] = False
    try:
        return load_settings(flags)
    except ValueError as error:
        raise UsageError(str(error)) from None
