"""`llama-chat replay`: a stored chat's replies drawn again, with the first token that differs."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from chat_app.commands.options import add_model_options, add_output_option, settings_from
from chat_app.config.paths import get_paths
from chat_app.console.interrupt import stop_on_signals
from chat_app.console.streams import say, write

if TYPE_CHECKING:
    from chat_app.chat.replay import ReplayedReply


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The chat, and the model that runs it again."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="run a chat's replies again and compare",
        description="Run every reply of a stored chat again with its own prompt and seed, and tell "
        "the first token that differs. Exit code 1 when one does.",
    )
    parser.add_argument("chat", metavar="CHAT", help="a chat's id, or a part of it that fits only one")
    add_output_option(parser)
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the replies again and print where they differ. Exit code 1 where one does."""
    from chat_app.chat.replay import replay_chat
    from chat_app.console.engine_start import started_engine
    from chat_app.engines.local import LocalEngine
    from chat_app.store.chats import open_store

    store = open_store(get_paths())
    conversation = store.read(store.find(args.chat))
    settings = settings_from(args)
    replayed: list[ReplayedReply] = []
    with started_engine(settings) as (engine, path, _), stop_on_signals() as flag:
        for one in replay_chat(LocalEngine(engine, path), conversation, flag.stop):
            replayed.append(one)
            if args.output == "text":
                write(reply_line(one), end="\n")
        result = {"model": path.name, "backend": engine.backend, "replies": [reply_json(r) for r in replayed]}
    if args.output == "json":
        write(json.dumps(result), end="\n")
    else:
        same = sum(one.outcome == "same" for one in replayed)
        say(f"{same} of {len(replayed)} replies came out the same on {result['backend']}.")
    if flag.stop():
        return flag.exit_code
    return 1 if any(one.outcome == "different" for one in replayed) else 0


def reply_line(one: ReplayedReply) -> str:
    """One reply for people."""
    head = f"{one.message.id}  {one.outcome}"
    if one.outcome == "same":
        return f"{head}, {one.total} tokens"
    if one.divergence is None:
        return f"{head}: {one.reason}" if one.reason else head
    at = one.divergence
    stored = f"{at.stored_text!r} ({at.stored_id})" if at.stored_id is not None else "its end"
    again = f"{at.replayed_text!r} ({at.replayed_id})" if at.replayed_id is not None else "its end"
    return f"{head} from token {at.position} of {one.total}: {stored} was stored, {again} came again"


def reply_json(one: ReplayedReply) -> dict[str, Any]:
    """One reply's outcome; `divergence` only where it came out otherwise."""
    result: dict[str, Any] = {
        "message": one.message.id,
        "outcome": one.outcome,
        "matched": one.matched,
        "total": one.total,
    }
    if one.reason:
        result["reason"] = one.reason
    if one.divergence is not None:
        at = one.divergence
        result["divergence"] = {
            "position": at.position,
            "stored_id": at.stored_id,
            "replayed_id": at.replayed_id,
            "stored_text": at.stored_text,
            "replayed_text": at.replayed_text,
        }
    return result
