"""`llama-chat chats`: the stored chats listed, shown, searched, exported, imported and deleted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from chat_app.commands.options import add_output_option, file_path
from chat_app.config.paths import get_paths
from chat_app.console.streams import say, write
from chat_app.text.errors import UsageError
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.store.chats import ChatStore, ChatSummary

EXPORTS = ("markdown", "openai", "json", "html")
TITLE_WIDTH = 60


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """One parser for each thing that is done with stored chats."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "chats",
        help="list, show, search, export, import and delete chats",
        description="What was said is kept in one file (`llama-chat paths` names it). CHAT is an id, or the "
        "beginning or end of one that fits no other.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="chats_command", metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        add_output_option(made)
        return made

    listing = command("list", "the chats, pinned ones first, then the one last written to")
    listing.add_argument("--kind", choices=("chat", "oneshot", "all"), default="chat", help="which ones")
    listing.add_argument("--trash", action="store_true", help="those that were deleted in the last 30 days")
    command("show", "a chat as it stands on the screen").add_argument("chat", metavar="CHAT")
    search = command("search", "the chats in which every WORD stands in one message or in the title")
    search.add_argument("words", nargs="+", metavar="WORD")
    export = command("export", "write chats as files for other programs")
    export.add_argument("chats", nargs="*", metavar="CHAT")
    export.add_argument("--all", action="store_true", help="every chat")
    export.add_argument("--format", choices=EXPORTS, default="markdown", help="default: markdown")
    export.add_argument("--to", type=file_path, metavar="PATH", help="a file, or a folder for several")
    importing = command("import", "take over chats of 0.1, of another chats.db, or of other programs")
    importing.add_argument("sources", nargs="+", type=file_path, metavar="PATH")
    delete = command("delete", "put chats into the trash, where they stay for 30 days")
    delete.add_argument("chats", nargs="+", metavar="CHAT")
    delete.add_argument("--forever", action="store_true", help="remove them at once and for good")
    command("stats", "what was computed, by month and model")
    command("restore", "take chats out of the trash").add_argument("chats", nargs="+", metavar="CHAT")
    return parser


def run(args: argparse.Namespace) -> int:
    """Do it, then tell what happened to the store meanwhile. Raises StoreError and what the action raises."""
    from chat_app.store.chats import open_store

    commands: dict[str, Callable[[argparse.Namespace, ChatStore], None]] = {
        "list": list_chats,
        "show": show,
        "search": search,
        "export": export,
        "import": import_chats,
        "delete": delete,
        "restore": restore,
        "stats": stats,
    }
    store = open_store(get_paths())
    try:
        commands[args.chats_command](args, store)
    finally:
        for notice in store.database.notices:
            say(notice)
        store.close()
    return 0


def list_chats(args: argparse.Namespace, store: ChatStore) -> None:
    """Print the chats, or the trash, one a line."""
    chats = store.list(None if args.kind == "all" else args.kind, deleted=args.trash)
    if args.output == "json":
        write_json([asdict(chat) for chat in chats])
        return
    for chat in chats:
        write(row(chat), end="\n")
    if not chats:
        say("The trash is empty." if args.trash else "There are no chats yet.")


def row(chat: ChatSummary) -> str:
    """`20261123-120501-9f3a1c07  2026-11-23 12:05     4  What is ...`; times are UTC."""
    mark = "* " if chat.pinned else ""
    when = chat.updated[:16].replace("T", " ")
    return f"{chat.id}  {when:<16}  {chat.message_count:>5,}  {mark}{clean_line(chat.title, TITLE_WIDTH)}"


def show(args: argparse.Namespace, store: ChatStore) -> None:
    """Print one chat as Markdown or JSON. Raises StoreError where there is none."""
    from chat_app.store.export import to_json, to_markdown

    transcript = store.open(store.find(args.chat))
    about = transcript.details
    render = to_json if args.output == "json" else to_markdown
    write(render(transcript.conversation, model=about.model, created=about.created))
    for warning in transcript.warnings:
        say(warning)


def search(args: argparse.Namespace, store: ChatStore) -> None:
    """Print the chats that hold all words, each with the message that fits best."""
    hits = store.search(store.list(None), " ".join(args.words))
    if args.output == "json":
        write_json(
            [
                {
                    "id": hit.chat.id,
                    "title": hit.chat.title,
                    "message": hit.message_id,
                    "count": hit.count,
                    "snippet": hit.snippet.text,
                    "spans": hit.snippet.spans,
                }
                for hit in hits
            ]
        )
        return
    for hit in hits:
        write(row(hit.chat), end="\n")
        if hit.message_id is not None:
            write(f"    {clean_line(hit.snippet.text)}", end="\n")
    if not hits:
        say("No chat holds these words.")


def export(args: argparse.Namespace, store: ChatStore) -> None:
    """Print the chats, or write a file for each. Raises UsageError, StoreError, ExportError."""
    from chat_app.store.export import ENDINGS, export_chat, rendered

    if bool(args.chats) == args.all:
        raise UsageError("name the chats to export, or give --all")
    if args.output == "json" and args.to is None:
        raise UsageError("--output json tells where the files are; give --to PATH as well")
    ids = [chat.id for chat in store.list(None)] if args.all else [store.find(one) for one in args.chats]
    into_folder = args.to is not None and (args.all or len(ids) > 1 or args.to.is_dir())
    if into_folder:
        args.to.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    for chat_id in ids:
        chat = store.open(chat_id)
        talk, model, created = chat.conversation, chat.details.model, chat.details.created
        if args.to is None:
            write(rendered(talk, args.format, model=model, created=created))
            continue
        path = args.to / f"{chat_id}{ENDINGS[args.format]}" if into_folder else args.to
        files.append(str(export_chat(talk, path, kind=args.format, model=model, created=created)))
    if args.output == "json":
        write_json({"files": files})
    else:
        write("".join(f"{file}\n" for file in files))


def import_chats(args: argparse.Namespace, store: ChatStore) -> None:
    """Take over chats from files and folders; what was left out, and why, is told."""
    from chat_app.store.importing.sources import import_chats as import_source

    reports = {str(path): import_source(store.database, path) for path in args.sources}
    if args.output == "json":
        write_json([{"source": source, **asdict(report)} for source, report in reports.items()])
        return
    for source, report in reports.items():
        write(f"{source}: {count(len(report.imported), 'chat')} ", end="")
        write(f"with {count(report.n_messages, 'message')} taken over.", end="\n")
        if report.there_already:
            write(f"  {count(len(report.there_already), 'chat')} of it were here already.", end="\n")
        if report.n_left_out:
            what = count(report.n_left_out, "message")
            write(f"  {what} without text (pictures, calls of tools) left out.", end="\n")
        for place in report.unreadable:
            say(f"  {place}")


def delete(args: argparse.Namespace, store: ChatStore) -> None:
    """Put chats into the trash; with `--forever` remove them, those in the trash too."""
    ids = [find_any(store, one) if args.forever else store.find(one) for one in args.chats]
    for chat_id in ids:
        (store.remove if args.forever else store.delete)(chat_id)
    tell(args, ids, "removed for good" if args.forever else "put into the trash for 30 days")


def restore(args: argparse.Namespace, store: ChatStore) -> None:
    """Take chats out of the trash."""
    ids = [store.find(one, deleted=True) for one in args.chats]
    for chat_id in ids:
        store.restore(chat_id)
    tell(args, ids, "taken out of the trash")


def find_any(store: ChatStore, text: str) -> str:
    """The chat named, wherever it is. Raises StoreError."""
    from chat_app.store.chats import StoreError

    try:
        return store.find(text)
    except StoreError:
        return store.find(text, deleted=True)


def tell(args: argparse.Namespace, ids: list[str], what: str) -> None:
    """Print the chats' ids, with what was done in words or as JSON."""
    if args.output == "json":
        write_json({"chats": ids})
        return
    for chat_id in ids:
        write(f"{chat_id} {what}", end="\n")


def count(number: int, what: str) -> str:
    """`1 chat`, `1,234 chats`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def write_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    write(json.dumps(value, indent=2), end="\n")


def stats(args: argparse.Namespace, store: ChatStore) -> None:
    """Print what was computed, as JSON or as a table."""
    from chat_app.store.usage import usage_table

    usage = store.usage()
    if args.output == "json":
        write_json([asdict(one) for one in usage])
    else:
        write(usage_table(usage), end="\n")
