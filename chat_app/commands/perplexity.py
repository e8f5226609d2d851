"""`llama-chat perplexity`: how well the model predicts a text, token by token, in one context."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chat_app.commands.options import add_model_options, add_output_option, file_path, settings_from
from chat_app.console.streams import read_stdin, say, write
from chat_app.text.errors import UsageError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The text's file, and the model."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "perplexity",
        help="how well the model predicts a text",
        description="Print the mean negative log-likelihood (nats) of the text's tokens; perplexity, its "
        "exponential, goes to stderr. A text longer than the context is taken in pieces. Each begins with "
        "the begin token where the model asks for one; else its first token is read and not predicted.",
    )
    parser.add_argument("file", type=_file_or_stdin, metavar="FILE|-")
    add_output_option(parser)
    add_model_options(parser)
    return parser


def _file_or_stdin(text: str) -> Path | None:
    """An argparse type: None for `-`, which is stdin; a file of that name is `./-`."""
    return None if text == "-" else file_path(text)


def pieces(ids: list[int], ctx_size: int, begin: Sequence[int] = ()) -> list[list[int]]:
    """`ids` in runs of at most `ctx_size`, each behind the ids `begin`; a run of one id, which predicts
    nothing, is left out."""
    step = ctx_size - len(begin)
    runs = [[*begin, *ids[start : start + step]] for start in range(0, len(ids), step)]
    return [run for run in runs if len(run) > 1]


def run(args: argparse.Namespace) -> int:
    """Print the mean negative log-likelihood in nats a token. Raises UsageError for too short a text."""
    from chat_app.console.engine_start import started_engine

    if args.file is None:
        text = read_stdin()
        if text is None:
            raise UsageError("`perplexity -` reads stdin, which is a terminal here. Pipe a text in.")
    else:
        text = args.file.read_bytes().decode("utf-8", "replace")
    with started_engine(settings_from(args), guessing=False) as (engine, path, _):
        ids = engine.tokenizer.encode(text)
        bos = engine.tokenizer.bos_id
        begin = [bos] if engine.tokenizer.add_bos and bos is not None else []
        runs = pieces(ids, engine.ctx_size, begin)
        if not runs:
            raise UsageError(f"the text has {len(ids)} tokens; at least {2 - len(begin)} needed.")
        total, predicted = 0.0, 0
        for run_ids in runs:
            total += engine.perplexity(run_ids) * (len(run_ids) - 1)
            predicted += len(run_ids) - 1
        mean_nll = total / predicted
        if args.output == "json":
            result = {
                "model": path.name,
                "backend": engine.backend,
                "mean_nll": mean_nll,
                "perplexity": math.exp(mean_nll),
                "tokens": len(ids),
                "predicted": predicted,
                "ctx_size": engine.ctx_size,
            }
            write(json.dumps(result), end="\n")
        else:
            write(f"{mean_nll:.6f}\n")
            say(f"perplexity {math.exp(mean_nll):.4f} over {predicted:,} tokens, context {engine.ctx_size:,}")
    return 0
