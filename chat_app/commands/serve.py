"""`llama-chat serve`: the model behind OpenAI's API, for editors, agents and scripts."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.options import add_model_options, positive, settings_from
from chat_app.console.streams import say
from chat_app.text.errors import UsageError

if TYPE_CHECKING:
    from chat_app.serve.guard import Policy
    from chat_app.serve.worker import Worker
    from llama_core.engine.text import TextEngine

KEY_VARIABLE = "LLAMA_CHAT_API_KEY"
MIB = 1 << 20
# No prompt holds up the tokens of others for longer.
MAX_STEP_S = 0.1
NEEDED = ("starlette", "uvicorn")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Where to listen, who may ask, and how much at once."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "serve",
        help="serve the model to programs that speak OpenAI's API",
        description="Serve /v1/chat/completions, /v1/completions, /v1/models, /tokenize, /health and "
        "/metrics. Only programs on this machine can ask, unless --host says otherwise; then an API key is "
        "needed. "
        f"The key may stand in {KEY_VARIABLE}, where other users of the machine do not see it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen there (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=_port, default=8080, metavar="N", help="default: 8080")
    parser.add_argument("--api-key", metavar="KEY", help="clients must send this key")
    parser.add_argument("--no-auth", action="store_true", help="no key, even for other machines")
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="pages from this origin may ask, such as http://localhost:3000; may be repeated",
    )
    parser.add_argument(
        "--parallel", type=positive, default=16, metavar="N", help="requests at once (default: 16)"
    )
    parser.add_argument(
        "--queue", type=positive, default=64, metavar="N", help="requests that may wait (default: 64)"
    )
    parser.add_argument(
        "--kv-budget",
        type=positive,
        metavar="MIB",
        help="memory for all keys and values (default: 2048, or a quarter of what is free)",
    )
    parser.add_argument("--watch", action="store_true", help="show what it does in the terminal")
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until a signal or the panel ends it. Raises UsageError where the extra `serve` is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"serve needs {' and '.join(missing)}; `pip install llama-chat[serve]` brings them")
    policy = _policy(args)
    from chat_app.console.engine_start import started_engine
    from chat_app.serve.run import serve

    settings = settings_from(args)
    with started_engine(settings, guessing=False) as (engine, path, _):
        worker = _worker(args, engine)
        say(f"{path.name} ({engine.backend}) at http://{_shown(args.host)}:{args.port}/v1. Ctrl+C ends it.")
        panel = _panel(worker, _name(path)) if args.watch else None
        return serve(engine, worker, policy, port=args.port, model_name=_name(path), panel=panel)


def _panel(worker: Worker, model_name: str) -> Callable[[str], None]:
    from chat_app.tui.watch import WatchApp

    return lambda address: WatchApp(worker.load, address, model_name).run()


def _policy(args: argparse.Namespace) -> Policy:
    """Raises UsageError where anybody could ask without a key."""
    from chat_app.serve.guard import Policy

    key = args.api_key or os.environ.get(KEY_VARIABLE) or None
    if args.no_auth and key:
        raise UsageError("--no-auth and an API key exclude each other")
    policy = Policy(args.host, key, frozenset(args.cors))
    if not policy.is_local and key is None and not args.no_auth:
        raise UsageError(
            f"--host {args.host} lets other machines ask; give --api-key KEY, or --no-auth if anybody may"
        )
    return policy


def _worker(args: argparse.Namespace, engine: TextEngine) -> Worker:
    from chat_app.serve.worker import Worker
    from llama_core.engine.batch.scheduler import BatchEngine
    from llama_core.memory import available_bytes

    budget = args.kv_budget * MIB if args.kv_budget else min(2048 * MIB, available_bytes() // 4)
    batch = BatchEngine(
        engine.model,
        kv_budget_bytes=budget,
        ctx_size=engine.ctx_size,
        max_sequences=args.parallel,
        max_step_s=MAX_STEP_S,
    )
    return Worker(batch, engine.tokenizer, queue_n=args.queue)


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(text: str) -> int:
    value = int(text) if text.isdecimal() else -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return value
