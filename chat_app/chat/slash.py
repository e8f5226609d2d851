"""What a slash command is: one function that carries its names, its argument, its help and its completion.

The screen's palette and `/help`, the line chat and the documentation are made from the table of them
(`commands.SLASH`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from chat_app.text.errors import nearest

# Of (host, the argument as typed so far): whole arguments, each with what it does. One that ends in a blank
# wants something behind it.
Completer = Callable[[Any, str], Iterable[tuple[str, str]]]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Completion:
    """What a typed line may become. `line` replaces it when this is taken; empty: only a reminder.

    is_typed: the line says it already. is_whole: it can be sent as it is.
    """

    shown: str
    about: str
    line: str
    is_typed: bool = False
    is_whole: bool = True


class UnknownCommandError(ValueError):
    """No such command; the message names the nearest."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What stands behind a command's name. `usage` shows it, in brackets what may be left out of it.

    read: makes of its text what the function takes, or raises ValueError with a phrase. completer: gives
    whole arguments for what is typed so far.
    """

    usage: str
    read: Callable[[str], Any] = str
    completer: Completer | None = None

    @property
    def required(self) -> bool:
        """Whether the command refuses to run without it."""
        return not (self.usage.startswith("[") and self.usage.endswith("]"))


def words(*known: tuple[str, str]) -> Completer:
    """A completer from a fixed list of words, each with what it does."""
    return lambda _, typed: [one for one in known if one[0].startswith(typed.lower())]


@dataclass(frozen=True, slots=True)
class Command:
    """`function` takes the host, and the argument (None: left out) where the command has one.

    palette: its title in the command palette; empty: not there. needs_screen: means nothing in the line chat.
    """

    name: str
    aliases: tuple[str, ...]
    argument: Argument | None
    help: str
    palette: str
    needs_screen: bool
    function: Callable[..., Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases, the name first."""
        return (self.name, *self.aliases)

    @property
    def usage(self) -> str:
        """The name with its argument, as the help shows it."""
        return f"{self.name} {self.argument.usage}" if self.argument is not None else self.name

    def run(self, host: Any, text: str) -> Awaitable[Any] | None:
        """Run it with the argument `text`; returns what is to be awaited. Raises ValueError, a sentence."""
        if self.argument is None:
            if text:
                raise ValueError(f"{self.name} takes nothing behind it, not {text!r}. It does: {self.help}.")
            return self.function(host)  # type: ignore[no-any-return]
        if not text and self.argument.required:
            raise ValueError(f"Something is missing. As in: {self.usage}")
        try:
            value = self.argument.read(text) if text else None
        except ValueError as error:
            sentence = str(error)[:1].upper() + str(error)[1:]
            stop = "" if sentence.endswith((".", "?")) else "."
            raise ValueError(f"{sentence}{stop} As in: {self.usage}") from None
        return self.function(host, value)  # type: ignore[no-any-return]


class CommandTable:
    """Commands by name, in the order in which they are defined."""

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._by_name: dict[str, Command] = {}

    def command(
        self,
        name: str,
        *aliases: str,
        argument: Argument | None = None,
        palette: str = "",
        needs_screen: bool = False,
    ) -> Callable[[F], F]:
        """The decorator that makes a function a command; the first line of its docstring is the help."""

        def add(function: F) -> F:
            help = (function.__doc__ or "").partition("\n")[0].rstrip(".")
            command = Command(name, aliases, argument, help, palette, needs_screen, function)
            for one in command.names:
                if one in self._by_name:
                    raise ValueError(f"{one} is the name of two commands")
                self._by_name[one] = command
            self._commands.append(command)
            return function

        return add

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

    def for_lines(self) -> list[Command]:
        """Those that mean something without a screen."""
        return [command for command in self if not command.needs_screen]

    def parse(self, text: str) -> tuple[Command, str]:
        """The command and its argument's text. Raises UnknownCommandError."""
        name, _, argument = text.strip().partition(" ")
        command = self._by_name.get(name.lower())
        if command is None:
            hint = nearest(name.lower(), self._by_name) or " /help lists them."
            raise UnknownCommandError(f"There is no command {name}.{hint}")
        return command, argument.strip()

    def run(self, host: Any, text: str) -> Awaitable[Any] | None:
        """Run a typed line; what is to be awaited is returned. Raises ValueError with a sentence."""
        command, argument = self.parse(text)
        return command.run(host, argument)

    def completions(self, host: Any, text: str) -> list[Completion]:
        """What `text` may become: a command, or an argument once one is typed. What is typed comes first."""
        if not text.startswith("/") or "\n" in text:
            return []
        typed, space, argument = text.partition(" ")
        typed = typed.lower()
        if space:
            command = self._by_name.get(typed)
            return _argument_completions(command, host, argument.lstrip()) if command is not None else []
        fitting = [one for one in self if any(name.startswith(typed) for name in one.names)]
        fitting.sort(key=lambda one: typed not in one.names)
        return [
            Completion(
                one.usage if len(fitting) == 1 else one.name,
                one.help,
                one.name if one.argument is None else one.name + " ",
                is_typed=typed in one.names,
                is_whole=one.argument is None or not one.argument.required,
            )
            for one in fitting
        ]

    def markdown(self) -> str:
        """The table for the documentation."""
        rows = [
            f"| `{', '.join([one.usage.replace('|', chr(92) + '|'), *one.aliases])}` | {one.help} "
            f"| {'' if one.needs_screen else 'yes'} |"
            for one in self
        ]
        return "\n".join(["| command | does | also in `--plain` |", "|---|---|---|", *rows]) + "\n"


def _argument_completions(command: Command, host: Any, typed: str) -> list[Completion]:
    if command.argument is None:
        return []
    completer = command.argument.completer
    found = list(completer(host, typed)) if completer is not None else []
    if not found:
        return [Completion(command.usage, command.help, "")]
    return [
        Completion(
            word.rstrip(),
            about,
            f"{command.name} {word}",
            is_typed=word.rstrip() == typed.rstrip().lower(),
            is_whole=not word.endswith(" "),
        )
        for word, about in found
    ]


def is_command(text: str) -> bool:
    """Whether a prompt is a command: it starts with a slash and a word ("/usr/bin is..." is none)."""
    word = text.split(maxsplit=1)[0] if text.strip() else ""
    return word == "/?" or (word.startswith("/") and "/" not in word[1:] and "\n" not in text.strip("\n"))
