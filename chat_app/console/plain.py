"""Line mode: read a line, print the reply, no drawing. For screen readers, dumb terminals and pipes."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from chat_app.chat.slash import is_command
from chat_app.console.engine_start import started_engine
from chat_app.console.interrupt import stop_on_signals
from chat_app.console.line_chat import LineChat, open_chat
from chat_app.console.plain_commands import Answer, run_line_command
from chat_app.console.streams import is_terminal, say, write
from chat_app.console.timings_text import timing_lines
from chat_app.text.errors import describe_error
from llama_core.errors import LlamaCoreError
from llama_core.events import Finished, TextDelta

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.engine.text import TextEngine

PROMPT = ">>> "
QUOTES = '"""'


def run_plain(
    settings: Settings,
    *,
    prompt: str | None = None,
    resume: str | None = None,
    continue_latest: bool = False,
    verbose: bool = False,
) -> int:
    """Talk until /bye or the end of the input. Returns 0, or 128 + the signal that ended it."""
    with contextlib.ExitStack() as stack:
        file = open_chat(settings, continue_latest=continue_latest, resume=resume)
        engine, path, _ = stack.enter_context(started_engine(settings))
        chat = LineChat(settings, file, engine, path)
        stack.callback(lambda: chat.chat.close())
        say(f"{path.name} on {engine.backend}. /help lists the commands, /bye ends.")
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
                if run_line_command(text, chat, engine) is Answer.END:
                    return 0
            elif text.strip():
                code = reply(chat, engine, text, verbose=verbose)
                if code not in (0, 130):
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
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        write("\n")
        return None


def reply(chat: LineChat, engine: TextEngine, text: str, *, verbose: bool) -> int:
    """Print the answer to `text`. Ctrl+C stops it and keeps what is there. Returns 0 or 128 + the signal."""
    try:
        prompt_ids = chat.ask(text)
        with stop_on_signals() as flag:
            events = engine.generate(prompt_ids, chat.settings.params, cancelled=flag.stop)
            last = ""
            with contextlib.closing(chat.record(events)) as recorded:
                for event in recorded:
                    if isinstance(event, TextDelta):
                        write(event.text)
                        last = event.text or last
                    elif isinstance(event, Finished):
                        write("" if last.endswith("\n") else "\n")
                        if event.reason != "stop":
                            say(f"({ENDINGS[event.reason]})")
                        if verbose:
                            say("\n".join(timing_lines(event.timings, 0.0)))
            return flag.exit_code
    except (LlamaCoreError, MemoryError) as error:
        say(describe_error(error))
        return 0


ENDINGS = {
    "length": "stopped at num_predict tokens",
    "context": "stopped: the context is full; /clear begins a new chat",
    "cancelled": "stopped; what is there is kept",
}
