"""The slash commands about chats: new, found, renamed, exported, left."""

from __future__ import annotations

from chat_app.chat.commands.host import Host, ScreenHost
from chat_app.chat.commands.table import SLASH
from chat_app.chat.slash import Argument
from chat_app.text.sanitize import clean_line

TITLE_LENGTH = 120


@SLASH.command("/help", "/?", palette="Keys and commands")
def show_help(host: Host) -> None:
    """All keys and commands."""
    host.show_help()


@SLASH.command("/new", "/clear", palette="New chat")
def new(host: Host) -> None:
    """Start a new chat; this one stays in the history."""
    host.spawn(host.session.new_chat())


@SLASH.command("/history", palette="Chats", needs_screen=True)
def history(host: ScreenHost) -> None:
    """All chats: open, continue, delete."""
    host.show_history("")


@SLASH.command("/search", argument=Argument("TEXT"), needs_screen=True)
def search(host: ScreenHost, text: str) -> None:
    """Find a text in all chats."""
    host.show_history(text)


@SLASH.command("/find", argument=Argument("[TEXT]"), palette="Find in this chat", needs_screen=True)
def find(host: ScreenHost, text: str | None) -> None:
    """Find a text in this chat, in thoughts and files too."""
    host.find(text)


@SLASH.command("/rename", "/title", argument=Argument("TITLE"))
async def rename(host: Host, title: str) -> None:
    """Give the chat a title."""
    await host.session.saver.set_title(clean_line(title, TITLE_LENGTH))
    host.session.view.show_state()


@SLASH.command("/save")
async def save(host: Host) -> None:
    """Write to disk what could not be written; /export and /write make files."""
    if await host.session.saver.retry():
        kept = host.session.settings.save
        host.note("Every message is on disk." if kept else "This chat is not kept.")


@SLASH.command("/export", argument=Argument("[FILE]"), palette="Export as Markdown", needs_screen=True)
def export(host: ScreenHost, target: str | None) -> None:
    """Write the chat: .md, .json, .jsonl or .svg by the ending."""
    host.export(target or "")


@SLASH.command("/quit", "/bye", "/exit", palette="Quit")
def leave(host: Host) -> None:
    """Leave; the chat can be resumed."""
    host.leave()
