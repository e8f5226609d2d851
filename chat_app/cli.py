"""The command line: which command, chat, or one-shot run is meant. Nothing heavy is imported for `--help`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chat_app.commands.options import (
    CommandParser,
    add_model_options,
    add_output_option,
    add_sampling_options,
    add_settings,
    settings_from,
)
from chat_app.console.streams import is_terminal, quiet_pipe, say, use_utf8
from chat_app.text.errors import UsageError, describe_error

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

PROGRAM = "llama-chat"
# Set by the shell's part of `llama-chat completion` while it asks for completions.
ASKED_TO_COMPLETE = "_ARGCOMPLETE"
EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# Each module has add_parser(subparsers) -> ArgumentParser and run(args) -> exit code; it is imported only
# when its command runs, so its one-line help stands here.
COMMANDS: dict[str, tuple[str, str]] = {
    "chats": ("chat_app.commands.chats", "list, show, search, export, import and delete chats"),
    "models": ("chat_app.commands.models", "list, fetch, inspect, convert and remove models"),
    "tokenize": ("chat_app.commands.tokenize", "print the token ids of a text"),
    "perplexity": ("chat_app.commands.perplexity", "how well the model predicts a text"),
    "paths": ("chat_app.commands.paths", "print the folders and files the app uses"),
    "bench": ("chat_app.commands.bench", "measure prefill and decode against the machine's ceiling"),
    "replay": ("chat_app.commands.replay", "run a chat's replies again and compare"),
    "profile": ("chat_app.commands.profile", "where time and memory go"),
    "lab": ("chat_app.commands.lab", "run the experiments behind the claims about speed"),
    "serve": ("chat_app.commands.serve", "serve the model to programs that speak OpenAI's API"),
    "batch": ("chat_app.commands.batch", "answer a file of requests"),
    "completion": ("chat_app.commands.completion", "make the shell's Tab key know all this"),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of `llama-chat [options] [PROMPT]`; commands have parsers of their own."""
    width = max(len(name) for name in COMMANDS)
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    parser = CommandParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] [PROMPT]\n       {PROGRAM} COMMAND [options]",
        description="Chat with a Llama-family model on your own machine.",
        epilog=f"commands (each has its own --help):\n{listing}\n\n"
        "Text on stdin is added to the prompt. Where stdout is no terminal the reply is printed and the "
        "program ends.\nexit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to say first")
    parser.add_argument(
        "-p",
        "--print",
        nargs="?",
        const="",
        metavar="PROMPT",
        dest="print_prompt",
        help="print one reply and end",
    )
    parser.add_argument(
        "-c", "--continue", action="store_true", dest="continue_latest", help="go on with the latest chat"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="ID",
        help="go on with the chat ID; without an ID, with one from the list of chats",
    )
    parser.add_argument(
        "-f",
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        dest="files",
        help="attach a file, folder or glob to the first message; may be given several times",
    )
    add_settings(parser, "app")
    parser.add_argument("--plain", action="store_true", help="a simple line-by-line chat, for screen readers")
    parser.add_argument(
        "--raw", action="store_true", help="the prompt without the chat template; special tokens count"
    )
    parser.add_argument(
        "--choices",
        metavar="A,B,...",
        help="print how likely each of these answers is, instead of a reply; several as JSON",
    )
    parser.add_argument(
        "--logits", type=int, default=0, metavar="N", help="with --output json: the N likeliest next tokens"
    )
    parser.add_argument(
        "--show-thinking", action="store_true", help="print a model's thought before its answer"
    )
    parser.add_argument("--verbose", action="store_true", help="timings on stderr after the reply")
    parser.add_argument("-V", "--version", action="store_true", help="print the version and end")
    add_output_option(parser, ("text", "json", "stream-json"))
    add_model_options(parser)
    add_sampling_options(parser)
    return parser


def find_command(argv: Sequence[str], parser: argparse.ArgumentParser) -> int | None:
    """The index of the command's name in `argv`: the first positional, where it is one; else None."""
    takes: dict[str, Any] = {
        flag: action.nargs for action in parser._actions for flag in action.option_strings
    }
    plain = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    index = 0
    while index < len(argv):
        word = argv[index]
        if word == "--":
            return None
        if not word.startswith("-") or word == "-":
            return index if word in COMMANDS else None
        index += 1
        if word in plain or word not in takes:  # unknown words and --name=value carry their value along
            continue
        if takes[word] == "?":
            index += int(index < len(argv) and not argv[index].startswith("-"))
        else:
            index += takes[word] or 1
    return None


def joined_prompt(argv: Sequence[str], flags: Mapping[str, Any]) -> list[str]:
    """`argv` with a prompt that begins with a dash joined to the `-p` before it: `-p '-s is a flag'`.

    What holds white space and follows `-p` is a prompt, not an option; one word could be either and is an
    option, unless it is given as `--print=-word`.
    """
    words: list[str] = []
    for index, word in enumerate(argv):
        if word == "--":
            return [*words, *argv[index:]]
        is_text = len(word.split()) > 1 and word.partition("=")[0] not in flags
        if words[-1:] in (["-p"], ["--print"]) and word.startswith("-") and is_text:
            words[-1] = f"--print={word}"
        else:
            words.append(word)
    return words


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Import the command's module, parse `arguments`, run it."""
    module = importlib.import_module(COMMANDS[name][0])
    # The command's own parser, so that what it says about wrong usage shows its own options.
    command_parser = module.add_parser(CommandParser(prog=PROGRAM).add_subparsers())
    args = command_parser.parse_args(arguments)
    prepare()
    return int(module.run(args))


def complete_line(line: str) -> None:
    """Answer the shell, which asks what may come next in `line`, and end the process."""
    from chat_app.commands.completion import complete

    words = line.split()[1:]
    parser = build_parser()
    at = find_command(words, parser)
    if at is None:
        prompt = next(action for action in parser._actions if action.dest == "prompt")
        prompt.completer = lambda **_: COMMANDS  # type: ignore[attr-defined]
    else:
        parser = CommandParser(prog=PROGRAM)
        importlib.import_module(COMMANDS[words[at]][0]).add_parser(parser.add_subparsers())
    complete(parser)


def run_chat(args: argparse.Namespace) -> int:
    """One reply, the line mode, or the app."""
    from chat_app.config.presets import set_by_presets

    prepare()
    settings = settings_from(args)
    chosen = {*getattr(args, "chosen", ()), *(("parameters",) if args.parameters else ())}
    chosen |= set_by_presets(settings)
    words = " ".join(args.prompt)
    if args.print_prompt is not None:
        words = " ".join(part for part in (args.print_prompt, words) if part)
    if args.continue_latest and args.resume is not None:
        raise UsageError("--continue and --resume name two chats; give one of them.")
    if args.logits and args.output == "text":
        raise UsageError("--logits needs --output json.")
    if not 0 <= args.logits <= 1 << 20:
        raise UsageError(f"--logits takes a number from 0 to {1 << 20:,}.")
    if args.files and args.raw:
        raise UsageError("--raw sends the prompt alone, so --file has no place beside it.")
    chooses = args.choices is not None
    one_shot = args.print_prompt is not None or args.output != "text" or args.raw or chooses
    on_screen = not (one_shot or args.plain or os.environ.get("TERM") == "dumb")
    if args.resume == "" and not (on_screen and is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError(
            "--resume without an ID shows the list of chats, and here is no screen. Give the ID."
        )
    if not one_shot and args.plain:
        return _plain(args, settings, words, chosen)
    if one_shot or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        from chat_app.console.oneshot import Request, run_oneshot

        request = Request(
            prompt=words,
            output=args.output,
            raw=args.raw,
            logits=args.logits,
            verbose=args.verbose,
            continue_latest=args.continue_latest,
            resume=args.resume,
            chosen=chosen,
            show_thinking=args.show_thinking,
            files=args.files,
        )
        if chooses:
            from chat_app.console.answer_scores import read_answers, run_choices

            return run_choices(request, read_answers(args.choices), settings)
        return run_oneshot(request, settings)
    if os.environ.get("TERM") == "dumb":
        return _plain(args, settings, words, chosen)
    from chat_app.tui.app import run_app

    return run_app(
        settings,
        prompt=words or None,
        resume=args.resume,
        continue_latest=args.continue_latest,
        chosen=chosen,
        files=args.files,
    )


def _plain(args: argparse.Namespace, settings: Settings, words: str, chosen: set[str]) -> int:
    from chat_app.console.plain import run_plain

    return run_plain(
        settings,
        prompt=words or None,
        resume=args.resume,
        continue_latest=args.continue_latest,
        verbose=args.verbose,
        show_thinking=args.show_thinking,
        chosen=chosen,
        files=args.files,
    )


def show_version() -> int:
    """Print the version that is installed; returns the exit code."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(f"{PROGRAM} {version('llama-chat')}")
    except PackageNotFoundError:
        print(f"{PROGRAM} (not installed as a package)")
    return EXIT_OK


def prepare() -> None:
    """What goes wrong from here on is in the log file. Raises SentenceError where too few files may be
    open."""
    from chat_app.config.log import log_to
    from chat_app.config.paths import get_paths
    from chat_app.files.open_files import require_open_files

    require_open_files()
    log_to(get_paths().log_file)


def dispatch(argv: Sequence[str]) -> int:
    """Run what `argv` means; returns the exit code. Raises SystemExit from argparse (0 or 2)."""
    parser = build_parser()
    argv = joined_prompt(argv, parser._option_string_actions)
    at = find_command(argv, parser)
    if at is not None:
        return run_command(argv[at], [*argv[:at], *argv[at + 1 :]])
    args = parser.parse_intermixed_args(argv)
    return show_version() if args.version else run_chat(args)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point. Returns 0 (done), 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    use_utf8()
    if argv is None and ASKED_TO_COMPLETE in os.environ:
        complete_line(os.environ.get("COMP_LINE", ""))
    code = EXIT_OK
    try:
        with quiet_pipe():
            code = dispatch(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        say(f"{PROGRAM}: {error}")
        return EXIT_USAGE
    except Exception as error:  # a person gets a sentence; LLAMA_CHAT_DEBUG shows the rest
        if os.environ.get("LLAMA_CHAT_DEBUG"):
            raise
        import logging

        logging.getLogger(__name__).info("the command ended with an error", exc_info=error)
        say(f"{PROGRAM}: {describe_error(error)}")
        return EXIT_ERROR
    return code
