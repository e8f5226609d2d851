"""The line chat as the host of the slash commands. They speak on stderr: stdout holds replies alone."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from chat_app.attachments.finding import attach
from chat_app.chat.commands import SLASH
from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.comparing.told import facts_of, parting
from chat_app.chat.controller import ChatController
from chat_app.chat.view import Severity
from chat_app.console.chat import ConsoleChat
from chat_app.console.interrupt import stop_on_signals
from chat_app.console.streams import say, write
from chat_app.text.errors import describe_error

BLOCKS = ('"""', "Begins and ends a message of several lines")


class LineHost:
    """What the commands may do here (`commands.Host`)."""

    fixed = frozenset({"num_ctx"})  # the engine is loaded once

    def __init__(self, chat: ConsoleChat) -> None:
        self._chat = chat
        self.is_over = False

    @property
    def session(self) -> ChatController:
        """The controller of the line chat."""
        return self._chat.controller

    def note(self, text: str, severity: Severity = "information") -> None:
        """The sentence as a line on stderr."""
        say(text)

    def show_text(self, title: str, text: str) -> None:
        """The text on stderr, without its title."""
        say(text)

    def show_help(self) -> None:
        """The commands that need no screen, aligned, on stderr."""
        rows = [(", ".join((one.usage, *one.aliases)), one.help) for one in SLASH.for_lines()]
        rows.append(BLOCKS)
        width = max(len(usage) for usage, _ in rows)
        say("\n".join(f"{usage:<{width}}  {help}" for usage, help in rows))

    async def attach(self, names: Sequence[str]) -> None:
        """Keep the names for the next prompt, and say what that will cost."""
        found = attach(names)
        sizes = await self.session.attaching.sizes(found.attachments)
        self._chat.files += names
        for note in (*found.notes, *(size.line for size in sizes.rows)):
            say(note)

    async def show_comparison(self, comparison: Comparison) -> None:
        """Both, one after the other, when both are done; Ctrl+C stops them. The answers go to stdout."""
        with stop_on_signals(comparison.stop):
            await comparison.run()
        for place, (one, said) in enumerate(zip(comparison.contenders, comparison.answers, strict=True), 1):
            say(f"{place}  {one.side.label} · {facts_of(one)}")
            write("".join(piece.text for piece in said) + "\n" if said else "")
            if one.error:
                say(one.error)
        if parted := parting(comparison):
            say(parted)
        comparison.leave()
        there = [f"/keep {place}" for place, said in enumerate(comparison.answers, 1) if said]
        if there:
            say(f"{' or '.join(there)} keeps {'one' if there[1:] else 'it'} as the branch.")

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin the coroutine; the next `run` of the chat waits for it too."""
        self._chat.spawn(work)

    def leave(self) -> None:
        """The chat ends before the next line is read."""
        self.is_over = True


def run_line_command(line: str, chat: ConsoleChat) -> bool:
    """Run one slash command and all that follows from it; False where it ends the chat."""
    host = LineHost(chat)

    async def run() -> None:
        command, argument = SLASH.parse(line)
        if command.needs_screen:
            raise ValueError(f"{command.name} needs the screen; /help lists what can be done here.")
        done = command.run(host, argument)
        if done is not None:
            await done

    try:
        chat.run(run())
    except Exception as error:  # noqa: BLE001 - told; a command never ends the chat
        say(describe_error(error))
    return not host.is_over
