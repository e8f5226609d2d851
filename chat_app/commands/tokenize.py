"""`llama-chat tokenize`: a text as token ids. Only the file's header and tokenizer are read."""

from __future__ import annotations

import argparse
import json
from typing import Any

from chat_app.commands.options import add_model_options, add_output_option, settings_from
from chat_app.console.engine_start import locate_model
from chat_app.console.streams import read_stdin, say, write
from chat_app.text.errors import UsageError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The text, and the model whose tokenizer splits it."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "tokenize",
        help="print the token ids of a text",
        description="Print the token ids of TEXT, separated by spaces; `-` reads stdin to the byte.",
    )
    parser.add_argument("text", metavar="TEXT|-")
    parser.add_argument("--raw", action="store_true", help="special tokens in the text become their ids")
    add_output_option(parser)
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the ids; where bytes of the text were lost, say so. Raises UsageError for a terminal as stdin."""
    from llama_core.loaders import open_checkpoint

    settings = settings_from(args)
    for notice in settings.notices:
        say(notice)
    text = args.text
    if text == "-":
        piped = read_stdin()
        if piped is None:
            raise UsageError("`tokenize -` reads stdin, which is a terminal here. Pipe a text in.")
        text = piped
    tokenizer = open_checkpoint(locate_model(settings), settings.tokenizer).tokenizer
    ids = tokenizer.encode(text, special=args.raw)
    if not args.raw:
        missing = len(text.encode("utf-8", "replace")) - sum(len(tokenizer.token_bytes(one)) for one in ids)
        if missing > 0:
            say(
                f"The tokens stand for {missing} byte{'s' if missing > 1 else ''} less than the text: this "
                "vocabulary has none for them, or the tokenizer changes such text."
            )
    if args.output == "json":
        pieces = [tokenizer.token_text(token_id) for token_id in ids]
        write(json.dumps({"ids": ids, "pieces": pieces}, ensure_ascii=True), end="\n")
    else:
        write(" ".join(map(str, ids)), end="\n")
    return 0
