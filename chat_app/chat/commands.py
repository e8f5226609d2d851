"""The commands one types: names, usage, help, and what a line means. Knows no screen."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """`name` with its other names; `usage` shows arguments; the screen's handler is `do_<handler>`."""

    name: str
    usage: str
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def handler(self) -> str:
        return f"do_{self.name[1:]}"


COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("/help", "/help", "All keys and commands", ("/?",)),
    SlashCommand("/new", "/new", "Start a new chat; this one stays in the history", ("/clear",)),
    SlashCommand("/reset", "/reset", "Empty the KV cache; the transcript stays"),
    SlashCommand("/set", "/set parameter NAME VALUE | system TEXT", "Change a parameter"),
    SlashCommand("/show", "/show info | parameters | system | template", "What is set, and the model"),
    SlashCommand("/model", "/model [NAME|FILE]", "Switch the model, or choose one", ("/load",)),
    SlashCommand("/system", "/system [TEXT]", "Set the system prompt; without a text show it"),
    SlashCommand("/regen", "/regen", "Draw the last reply again, beside the old one", ("/regenerate",)),
    SlashCommand("/continue", "/continue", "Go on with the last reply"),
    SlashCommand("/edit", "/edit", "Edit your last message: a new branch"),
    SlashCommand("/branch", "/branch [N]", "Go back N messages and branch there"),
    SlashCommand("/copy", "/copy [code [N]]", "Copy the last reply, or its Nth code block"),
    SlashCommand("/export", "/export [FILE]", "Write the chat: .md, .json, .jsonl or .svg by the ending"),
    SlashCommand("/save", "/save", "Write to disk what could not be written"),
    SlashCommand("/history", "/history", "All chats: open, continue, delete"),
    SlashCommand("/search", "/search TEXT", "Find a text in all chats"),
    SlashCommand("/rename", "/rename TITLE", "Give the chat a title", ("/title",)),
    SlashCommand("/tokens", "/tokens [TEXT]", "How the model splits a text, or the last message"),
    SlashCommand("/inspect", "/inspect", "Each token of the last reply: probability, alternatives"),
    SlashCommand("/stats", "/stats", "What the last reply cost"),
    SlashCommand("/settings", "/settings", "All parameters on one screen"),
    SlashCommand("/theme", "/theme [NAME]", "Change the colours"),
    SlashCommand("/quit", "/quit", "Leave; the chat can be resumed", ("/bye", "/exit")),
)
BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


class UnknownCommandError(ValueError):
    """No such command; the message names the nearest."""


def is_command(text: str) -> bool:
    """Whether a prompt is a command: it starts with a slash and a word ("/usr/bin is..." is none)."""
    word = text.split(maxsplit=1)[0] if text.strip() else ""
    return word == "/?" or (word.startswith("/") and "/" not in word[1:] and "\n" not in text.strip("\n"))


def parse(text: str) -> tuple[SlashCommand, str]:
    """The command and its argument. Raises UnknownCommandError."""
    name, _, argument = text.strip().partition(" ")
    command = BY_NAME.get(name.lower())
    if command is None:
        near = difflib.get_close_matches(name.lower(), BY_NAME, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else " /help lists them."
        raise UnknownCommandError(f"There is no command {name}.{hint}")
    return command, argument.strip()


def offers(text: str) -> list[SlashCommand]:
    """The commands that `text` may become; the command itself once an argument is typed."""
    if not text.startswith("/") or "\n" in text:
        return []
    typed, space, _ = text.lower().partition(" ")
    if space:
        return [BY_NAME[typed]] if typed in BY_NAME else []
    return [
        command
        for command in COMMANDS
        if any(name.startswith(typed) for name in (command.name, *command.aliases))
    ]


def code_blocks(markdown: str) -> list[str]:
    """The contents of a reply's fenced code blocks; an open fence at the end counts."""
    blocks: list[str] = []
    lines: list[str] = []
    fence = ""
    for line in markdown.splitlines():
        mark = line.lstrip()
        if not fence and mark.startswith(("```", "~~~")):
            fence, lines = mark[: len(mark) - len(mark.lstrip(mark[0]))], []
        elif fence and mark.startswith(fence) and not mark.strip(fence[0] + " "):
            blocks.append("\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line)
    return [*blocks, "\n".join(lines)] if fence else blocks
