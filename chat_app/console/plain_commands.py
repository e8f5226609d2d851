"""The slash commands of line mode."""

from __future__ import annotations

from enum import Enum

from chat_app.config.settings import parameter_values, set_parameter
from chat_app.console.chat import ConsoleChat
from chat_app.console.streams import say
from chat_app.engines.base import Engine
from chat_app.text.errors import nearest

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


def run_line_command(line: str, chat: ConsoleChat) -> Answer:
    """Run one slash command; its words go to stderr, so that stdout holds replies alone."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if name in ("/bye", "/exit", "/quit"):
        return Answer.END
    if name in ("/help", "/?"):
        width = max(map(len, COMMANDS))
        say("\n".join(f"{command:<{width}}  {text}" for command, text in COMMANDS.items()))
    elif name in ("/clear", "/new"):
        chat.run(chat.controller.new_chat())
        say("A new chat.")
    elif name == "/reset":
        chat.run(chat.reset())
    elif name == "/set":
        _set(rest, chat)
    elif name == "/show":
        _show(rest, chat)
    else:
        say(f"There is no command {name}.{nearest(name, NAMES)} /help lists them.")
    return Answer.GO_ON


def _set(rest: str, chat: ConsoleChat) -> None:
    what, _, value = rest.partition(" ")
    if what == "system" and value.strip():
        chat.controller.set_system(value.strip())
        return
    name, _, text = value.strip().partition(" ")
    if what != "parameter" or not name or not text:
        say("As in: /set parameter temperature 0, or: /set system You answer in rhyme.")
        return
    if name == "num_ctx":
        say("The context's size is fixed while the model is loaded. Start again with --ctx-size.")
        return
    try:
        chat.controller.change_settings(set_parameter(chat.controller.settings, name, text))
    except ValueError as error:
        say(str(error))
        return
    say(f"{name} is {parameter_values(chat.controller.settings)[name.lower()]!r}.")


def _show(what: str, chat: ConsoleChat) -> None:
    if what == "parameters":
        values = parameter_values(chat.controller.settings)
        say("\n".join(f"{name:<15} {value}" for name, value in values.items()))
    elif what == "system":
        say(chat.controller.settings.system or "The model's own system prompt, if it has one.")
    elif what == "info":
        say(chat.run(chat.controller.ask(describe_engine)))
    else:
        say("As in: /show info, /show parameters, /show system.")


def describe_engine(engine: Engine) -> str:
    """What computes, and where its bytes are."""
    info, memory = engine.info, engine.memory()
    said = f"{info.name}: {info.backend}, {info.threads} threads, context {info.ctx_size:,}"
    if memory is None:
        return said
    return (
        f"{said}, weights {memory.weights_bytes / 2**20:,.0f} MiB, "
        f"KV cache {memory.kv_used_bytes / 2**20:,.2f} of {memory.kv_bytes / 2**20:,.2f} MiB, "
        f"resident {memory.resident_bytes / 2**20:,.0f} MiB"
    )
