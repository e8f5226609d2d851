"""The slash commands of line mode."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from chat_app.config.settings import parameter_values, set_parameter
from chat_app.console.line_chat import LineChat, open_chat
from chat_app.console.streams import say
from chat_app.text.errors import nearest

if TYPE_CHECKING:
    from llama_core.engine.text import TextEngine

COMMANDS = {
    "/help": "this list (also /?)",
    "/bye": "end (also /exit, /quit, Ctrl+D)",
    "/clear": "begin a new chat (also /new)",
    "/reset": "empty the KV cache; the chat stays",
    "/set parameter NAME VALUE": "for example: /set parameter temperature 0",
    "/set system TEXT": "the system prompt from the next turn on",
    "/show info|parameters|system": "what is set",
    '"""': "begins and ends a message of several lines",
}
NAMES = ["/help", "/?", "/bye", "/exit", "/quit", "/clear", "/new", "/reset", "/set", "/show"]


class Answer(Enum):
    """What the chat does after a command."""

    GO_ON = 0
    END = 1


def run_line_command(line: str, chat: LineChat, engine: TextEngine) -> Answer:
    """Run one slash command; its words go to stderr, so that stdout holds replies alone."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if name in ("/bye", "/exit", "/quit"):
        return Answer.END
    if name in ("/help", "/?"):
        width = max(map(len, COMMANDS))
        say("\n".join(f"{command:<{width}}  {text}" for command, text in COMMANDS.items()))
    elif name in ("/clear", "/new"):
        chat.chat.close()
        chat.chat = open_chat(chat.settings)
        say("A new chat.")
    elif name == "/reset":
        engine.reset()
        say("The KV cache is empty; the next reply reads the whole conversation again.")
    elif name == "/set":
        _set(rest, chat)
    elif name == "/show":
        _show(rest, chat, engine)
    else:
        say(f"There is no command {name}.{nearest(name, NAMES)} /help lists them.")
    return Answer.GO_ON


def _set(rest: str, chat: LineChat) -> None:
    what, _, value = rest.partition(" ")
    if what == "system" and value.strip():
        chat.settings = replace(chat.settings, system=value.strip())
        say("The system prompt is set from the next turn on.")
        return
    name, _, text = value.strip().partition(" ")
    if what != "parameter" or not name or not text:
        say("As in: /set parameter temperature 0, or: /set system You answer in rhyme.")
        return
    if name == "num_ctx":
        say("The context's size is fixed while the model is loaded. Start again with --ctx-size.")
        return
    try:
        chat.settings = set_parameter(chat.settings, name, text)
    except ValueError as error:
        say(str(error))
        return
    say(f"{name} is {parameter_values(chat.settings)[name.lower()]!r}.")


def _show(what: str, chat: LineChat, engine: TextEngine) -> None:
    if what == "parameters":
        values = parameter_values(chat.settings)
        say("\n".join(f"{name:<15} {value}" for name, value in values.items()))
    elif what == "system":
        say(chat.settings.system or "The model's own system prompt, if it has one.")
    elif what == "info":
        memory = engine.memory()
        say(
            f"{engine.checkpoint.path.name}: {engine.backend}, {engine.model.threads} threads, "
            f"context {engine.ctx_size:,}, weights {memory.weights_bytes / 2**20:,.0f} MiB, "
            f"KV cache {memory.kv_used_bytes / 2**20:,.2f} of {memory.kv_bytes / 2**20:,.2f} MiB, "
            f"resident {memory.resident_bytes / 2**20:,.0f} MiB"
        )
    else:
        say("As in: /show info, /show parameters, /show system.")
