"""Line mode: read a line, print the reply, no drawing. For screen readers, dumb terminals and pipes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Sequence

from chat_app.chat.recall import resumed
from chat_app.chat.slash import is_command
from chat_app.config.paths import get_paths
from chat_app.config.settings import Settings
from chat_app.console.chat import ConsoleChat
from chat_app.console.engine_start import started_chat
from chat_app.console.plain_commands import run_line_command
from chat_app.console.reply_writer import ReplyWriter
from chat_app.console.streams import is_terminal, read_piped_line, say, write
from chat_app.store.chats import open_store

PROMPT = ">>> "
QUOTES = '"""'
CONTEXT_HINT = "; /clear begins a new chat"


def run_plain(
    settings: Settings,
    *,
    prompt: str | None = None,
    resume: str | None = None,
    continue_latest: bool = False,
    verbose: bool = False,
    show_thinking: bool = False,
    chosen: Collection[str] = (),
    files: Sequence[str] = (),
) -> int:
    """Talk until /bye or the end of the input. Returns 0, or 128 + the signal that ended it."""
    store = open_store(get_paths())
    chat_id, settings = resumed(
        store,
        settings,
        resume=resume,
        continue_latest=continue_latest,
        chosen=chosen,
    )
    with started_chat(settings, keeps=True) as (engine, source, _):
        writer = ReplyWriter(hint=CONTEXT_HINT, verbose=verbose, show_thinking=show_thinking)
        with ConsoleChat(settings, engine, source, writer, store) as chat:
            chat.open(chat_id)
            chat.files += files
            info = engine.info
            where = f"{info.host}, {info.backend}: what you say is sent there" if info.host else info.backend
            say(f"{source.name} on {where}. /help lists the commands, /bye ends.")
            return _talk(chat, prompt)


def _talk(chat: ConsoleChat, prompt: str | None) -> int:
    if is_terminal(sys.stdin):
        with contextlib.suppress(ImportError):  # absent on some systems; then lines are not editable
            import readline  # noqa: F401
    text = prompt
    while True:
        if text is None:
            text = read_message()
        if text is None:
            return 0
        if is_command(text):
            if not run_line_command(text, chat):
                return 0
        elif text.strip():
            code = chat.answer(text)
            if code not in (0, 1, 130):
                return code
        text = None


def read_message() -> str | None:
    """The next line (or lines between triple quotes); None at the end of the input."""
    line = _read_line(PROMPT)
    if line is None or not line.startswith(QUOTES):
        return line
    lines, line = [], line[len(QUOTES) :]
    while not line.rstrip().endswith(QUOTES):
        lines.append(line)
        following = _read_line("... ")
        if following is None:
            return "\n".join(lines).strip("\n")
        line = following
    lines.append(line.rstrip()[: -len(QUOTES)])
    return "\n".join(lines).strip("\n")


def _read_line(prompt: str) -> str | None:
    """A line without its end. The prompt is shown to people only; Ctrl+C at an empty prompt ends."""
    if not is_terminal(sys.stdin):
        return read_piped_line()
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        write("\n")
        return None
