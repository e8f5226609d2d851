"""`llama-chat completion`: the shell's Tab key knows commands, options, models and chats (`argcomplete`)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from chat_app.config.paths import get_paths
from chat_app.console.streams import write
from chat_app.text.sanitize import clean_line

SHELLS = ("bash", "zsh", "fish", "powershell")
TITLE_WIDTH = 60


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """It takes the shell's name."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "completion",
        help="print what makes the shell complete commands, options, models and chats",
        description="Print the shell's part of completion. bash: add "
        '`eval "$(llama-chat completion bash)"` to ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. '
        "fish: `llama-chat completion fish > ~/.config/fish/completions/llama-chat.fish`.",
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the shell's part."""
    from argcomplete.shell_integration import shellcode

    write(shellcode(["llama-chat"], shell=args.shell), end="\n")
    return 0


def model_names(**_: object) -> Iterator[str]:
    """Names of models that are here or can be fetched, and of engines elsewhere, as `-m` takes them."""
    from chat_app.config.sources import load_settings
    from chat_app.models.catalogue import CATALOGUE, local_models
    from chat_app.models.hub_models import HUB_MODELS

    yield from (model.name for model in local_models() if model.is_whole)
    yield from CATALOGUE
    yield from (model.name for model in HUB_MODELS)
    yield from load_settings().engines


def chat_ids(**_: object) -> dict[str, str]:
    """The chats' ids with their titles; shells that can show both do."""
    from chat_app.store.chats import open_store

    store = open_store(get_paths())
    try:
        return {chat.id: clean_line(chat.title, TITLE_WIDTH) for chat in store.list(None)}
    finally:
        store.close()


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end the process. Options take files unless it is known what else they take."""
    import argcomplete

    _attach(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)


def _attach(parser: argparse.ArgumentParser) -> None:
    """Tell each action that takes a model or a chat what there is."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _attach(inner)
        elif action.dest in ("model", "draft", "name", "engine"):
            action.completer = model_names  # type: ignore[attr-defined]
        elif action.metavar in ("CHAT", "ID"):
            action.completer = chat_ids  # type: ignore[attr-defined]
