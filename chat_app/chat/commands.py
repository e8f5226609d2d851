"""The slash commands. Each is one function; who runs it is its `Host`: the screen, or the line chat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chat_app.attachments.mentions import offers_of_path, read_names
from chat_app.chat.conversation import Message
from chat_app.chat.presets import delete_preset, preset_table, save_preset, take_preset
from chat_app.chat.slash import Argument, CommandTable, words
from chat_app.chat.view import Severity
from chat_app.config.grammars import SCHEMA
from chat_app.config.presets import preset_names
from chat_app.config.settings import BY_NAME, PARAMETERS, parameter_values, set_parameter
from chat_app.config.values import read_think
from chat_app.store.usage import usage_table
from chat_app.text.code_blocks import code_blocks
from chat_app.text.errors import nearest
from chat_app.text.formatting import mib, verbose_timings
from chat_app.text.paths import read_path
from chat_app.text.sanitize import clean_line
from llama_core.grammar import Grammar

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController

SLASH = CommandTable()
TITLE_LENGTH = 120


class Host(Protocol):
    """What every command may use. Texts are from outside: the host makes them inert."""

    @property
    def session(self) -> ChatController:
        """The controller of the chat that the command acts on."""

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence for the user."""

    def show_text(self, title: str, text: str) -> None:
        """Something to read."""

    def show_help(self) -> None:
        """All commands, and keys where there are any."""

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the caller; what goes wrong in it is told."""

    def leave(self) -> None:
        """End; the chat can be resumed."""

    def attach(self, names: Sequence[str]) -> Awaitable[None] | None:
        """Let these files go with the next prompt. Raises AttachmentError."""

    @property
    def fixed(self) -> Collection[str]:
        """Parameters that cannot be changed here while the model is loaded."""


class ScreenHost(Host, Protocol):
    """What commands that need a screen use beside that."""

    def use_model(self, name: str) -> None:
        """Load a model by name or path; one that is not here is offered to be fetched."""

    def export(self, target: str) -> None:
        """Write the chat to a file, its format chosen by the ending; "" is Markdown under its title."""

    def copy(self, text: str) -> None:
        """Put a text on the clipboard."""

    def edit(self, message_id: str) -> None:
        """Put a message of the user into the prompt box; what is sent then is a new branch."""

    def inspect(self, message_id: str) -> None:
        """Look into the tokens of a reply, by its id."""

    def show_tokens(self, text: str) -> Awaitable[None]:
        """Show how the model splits a text."""

    def show_history(self, query: str) -> None:
        """Open the list of chats with a search for `query`; "" shows all."""

    def show_settings(self) -> None:
        """Open all parameters on one screen."""

    def choose_model(self) -> None:
        """Open the list of models."""

    def choose_theme(self) -> None:
        """Open the list of themes."""

    def themes(self) -> Iterable[str]:
        """What `use_theme` takes."""

    def use_theme(self, name: str) -> None:
        """Change the colours; the choice is kept for the next start."""


def last(host: Host, role: str) -> Message | None:
    """The newest message of a role on the path."""
    return next((one for one in reversed(host.session.path()) if one.role == role), None)


def last_reply(host: Host) -> Message:
    """Raises ValueError with a sentence where there is none."""
    message = last(host, "assistant")
    if message is None:
        raise ValueError("There is no reply yet.")
    return message


def read_number(text: str) -> int:
    """A number from 1 up. Raises ValueError with a phrase."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is no number from 1 up")
    return int(text)


def read_think_argument(text: str) -> tuple[Any]:
    """What `think` may be, in a tuple: None is one of the values. Raises ValueError with a phrase."""
    return (read_think(text),)


@SLASH.command("/help", "/?", palette="Keys and commands")
def show_help(host: Host) -> None:
    """All keys and commands."""
    host.show_help()


# Chats.


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


@SLASH.command("/rename", "/title", argument=Argument("TITLE"))
async def rename(host: Host, title: str) -> None:
    """Give the chat a title."""
    await host.session.saver.set_title(clean_line(title, TITLE_LENGTH))
    host.session.view.show_state()


@SLASH.command("/save")
async def save(host: Host) -> None:
    """Write to disk what could not be written."""
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


# The model and what it is told.


@SLASH.command("/reset", palette="Reset the KV cache")
def reset(host: Host) -> None:
    """Empty the KV cache; the transcript stays."""
    host.session.reset_cache()


@SLASH.command("/compact", palette="Compact: summarise the older turns")
def compact(host: Host) -> None:
    """Let the model summarise the older turns; a new branch goes on from there."""
    host.spawn(host.session.compact())


def _offer_engines(host: Host, typed: str) -> list[tuple[str, str]]:
    engines = host.session.settings.engines
    return [(name, f"remote, {one.host}") for name, one in engines.items() if name.startswith(typed)]


@SLASH.command(
    "/model",
    "/load",
    argument=Argument("[NAME|FILE|URL]", completer=_offer_engines),
    palette="Model",
    needs_screen=True,
)
def model(host: ScreenHost, name: str | None) -> None:
    """Switch the model, or choose one."""
    if name:
        host.use_model(name)
    else:
        host.choose_model()


@SLASH.command("/system", argument=Argument("[TEXT]"))
def system(host: Host, text: str | None) -> None:
    """Set the system prompt; without a text show it."""
    if text:
        host.session.set_system(text)
    else:
        host.show_text("System prompt", host.session.settings.system or "(none)")


@SLASH.command(
    "/think",
    argument=Argument(
        "[on | off | auto | N]",
        read_think_argument,
        words(
            ("on", "think before the answer"),
            ("off", "answer at once"),
            ("auto", "as the model likes"),
        ),
    ),
)
def think(host: Host, value: tuple[Any] | None) -> None:
    """Whether the model thinks before it answers; N: for at most so many tokens."""
    session = host.session
    info = session.model.info
    if value is None:
        host.note(f"think is {shown_think(PARAMETERS['think'].of(session.settings))}. As in: /think on")
        return
    session.change_settings(PARAMETERS["think"].put(session.settings, value[0]))
    if info is not None and not info.capabilities.thinks:
        host.note(f"{info.name} marks no thoughts, so this changes nothing for it.", "warning")
    else:
        host.note(f"think is {shown_think(value[0])}, from the next reply on.")


def shown_think(value: object) -> str:
    """What `think` is, in words."""
    return f"at most {value} tokens" if isinstance(value, int) else str(value or "auto: as the model likes")


def read_schema_argument(text: str) -> tuple[Grammar | None]:
    """What replies are to be held to; None for nothing."""
    return (SCHEMA.read(text),)


@SLASH.command(
    "/schema",
    argument=Argument(
        "[FILE | JSON | json | none]",
        read_schema_argument,
        words(("json", "any JSON object"), ("none", "replies are free again")),
    ),
)
def schema(host: Host, value: tuple[Grammar | None] | None) -> None:
    """Hold replies to a JSON schema; none: to nothing."""
    session = host.session
    if value is None:
        held = session.settings.params.grammar
        host.show_text("What replies are held to", "(nothing)" if held is None else held.text)
        return
    session.change_settings(BY_NAME["schema"].put(session.settings, value[0]))
    what = "are free" if value[0] is None else "are held to the schema"
    host.note(f"Replies {what}, from the next one on.")


PRESET_VERBS = (
    ("list", "what each sets"),
    ("use ", "set what a preset says"),
    ("save ", "keep the model and what is set, under a name"),
    ("delete ", "drop one"),
)


def read_preset_argument(text: str) -> tuple[str, str]:
    """What is to be done, and with which preset."""
    verb, _, name = text.partition(" ")
    verb, name = verb.lower(), name.strip()
    wanting = {word.strip(): word.endswith(" ") for word, _ in PRESET_VERBS}
    if verb not in wanting:
        raise ValueError(f"{verb!r} is nothing to do with presets")
    if wanting[verb] != bool(name):
        raise ValueError(f"{verb} wants a name" if wanting[verb] else f"{verb} takes no name")
    return verb, name


def complete_presets(host: Host, typed: str) -> list[tuple[str, str]]:
    """What can be done; then the names there are."""
    verb, space, name = typed.partition(" ")
    if not space:
        return [one for one in PRESET_VERBS if one[0].startswith(verb.lower())]
    return [(f"{verb} {one}", "") for one in preset_names() if one.startswith(name.lstrip())]


@SLASH.command(
    "/preset",
    argument=Argument("[list | use NAME | save NAME | delete NAME]", read_preset_argument, complete_presets),
    palette="Presets",
    needs_screen=True,
)
def preset(host: ScreenHost, wanted: tuple[str, str] | None) -> None:
    """Model, system prompt and parameters under a name."""
    verb, name = wanted or ("list", "")
    if verb == "save":
        host.note(save_preset(host.session, name))
    elif verb == "delete":
        delete_preset(name)
        host.note(f"Preset {name} is deleted.")
    elif verb == "list":
        host.show_text("Presets", preset_table() or "There are none. /preset save NAME makes one.")
    else:
        model = take_preset(host.session, name)
        host.note(f"Preset {name} counts from the next reply on.")
        if model is not None:
            host.use_model(model)


@SLASH.command("/answer", palette="Answer now", needs_screen=True)
def answer_now(host: ScreenHost) -> None:
    """End the thought under way; the answer begins."""
    host.session.answer_now()


def read_setting(text: str) -> tuple[str, str]:
    """The name of a parameter, or "system"; and the text behind it. ollama's `parameter` may be left out."""
    name, _, value = text.partition(" ")
    if name.lower() == "parameter":
        name, _, value = value.strip().partition(" ")
    known = [*PARAMETERS, "system"]
    if name.lower() not in known:
        raise ValueError(f"There is no parameter {name!r}.{nearest(name, known)}")
    return name.lower(), value.strip()


def complete_settings(host: Host, typed: str) -> list[tuple[str, str]]:
    """Parameters with what they are now; none once a value is being typed."""
    behind = typed.lower().removeprefix("parameter ").lstrip()
    values = parameter_values(host.session.settings)
    rows = [(f"{name} ", f"{_shown(values[name])} · {row.help}") for name, row in PARAMETERS.items()]
    return [row for row in [*rows, ("system ", "the system prompt")] if row[0].startswith(behind)]


def _shown(value: object) -> str:
    return "default" if value is None else str(value)


@SLASH.command("/set", argument=Argument("NAME VALUE | system TEXT", read_setting, complete_settings))
def change(host: Host, named: tuple[str, str]) -> None:
    """Change a parameter; without a value show it."""
    name, text = named
    session = host.session
    if name == "system":
        session.set_system(text)
        return
    if not text:
        row = PARAMETERS[name]
        source = session.settings.source_of(name)
        now = f"{_shown(row.of(session.settings))}{f' ({source})' if source else ''}"
        host.note(f"{name} is {now}. It may be {row.expected}: {row.help}.")
        return
    if name in host.fixed:
        flag = PARAMETERS[name].flags[-1]
        raise ValueError(f"{name} is fixed while the model is loaded. Start again with {flag} {text}.")
    settings = set_parameter(session.settings, name, text)
    again = settings.ctx_size != session.settings.ctx_size
    session.change_settings(settings)
    if name != "num_ctx":
        host.note(f"{name} is {_shown(PARAMETERS[name].of(settings))}, from the next reply on.")
    elif not again:
        host.note(f"num_ctx is {text} already.")
    elif session.generating:
        host.note("The context changes when this reply is done.")
    elif session.model.info is None and session.model.loading is None:
        host.note("num_ctx counts from the next model on.")


def _show_parameters(host: Host) -> None:
    settings = host.session.settings
    rows = [
        (name, _shown(value), settings.source_of(name)) for name, value in parameter_values(settings).items()
    ]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:<{wide[0]}}  {value:<{wide[1]}}  {source}".rstrip() for name, value, source in rows]
    host.show_text("Parameters", "\n".join(lines))


def _show_template(host: Host) -> None:
    info = host.session.model.info
    text = (info.template if info else "") or "(this model has no chat template)"
    host.show_text("Chat template", text)


def _show_model(host: Host) -> None:
    info = host.session.model.info
    if info is None:
        raise ValueError("No model is loaded.")
    rows = {
        "file": info.path,
        "architecture": info.architecture,
        "size": f"{info.file_bytes:,} bytes",
        "context": f"{info.ctx_size:,} tokens",
        "tokenizer": info.tokenizer,
        "backend": f"{info.backend}, {info.threads} threads",
        "template": "yes" if info.has_template else "no: plain completion",
    }
    if info.host:
        context = rows["context"] if info.ctx_size else "not told"
        rows = {"server": info.host, "backend": info.backend, "context": context, "not told": info.untold}
    shot = host.session.metrics.snapshot()
    if shot.weights_bytes is not None:
        rows["weights"] = f"{mib(shot.weights_bytes)} MiB"
    if shot.kv_bytes is not None:
        rows["KV cache"] = f"{mib(shot.kv_used_bytes or 0)} of {mib(shot.kv_bytes)} MiB"
    host.show_text(info.name, "\n".join(f"{name:<16}{value}" for name, value in rows.items()))


_SHOWN: dict[str, tuple[str, Callable[[Host], None]]] = {
    "info": ("the model: file, shapes, backend", _show_model),
    "parameters": ("what is set", _show_parameters),
    "system": ("the system prompt", lambda host: system(host, None)),
    "template": ("the model's chat template", _show_template),
}


def read_topic(text: str) -> Callable[[Host], None]:
    """What `/show` calls for a topic. Raises ValueError with a phrase where there is none."""
    topic = {"parameter": "parameters"}.get(text.lower(), text.lower())
    if topic not in _SHOWN:
        raise ValueError(f"{text!r} is nothing to show")
    return _SHOWN[topic][1]


@SLASH.command(
    "/show",
    argument=Argument(
        f"[{' | '.join(_SHOWN)}]", read_topic, words(*((name, about) for name, (about, _) in _SHOWN.items()))
    ),
    palette="Model information",
)
def show(host: Host, topic: Callable[[Host], None] | None) -> None:
    """What is set, and the model."""
    (topic or _show_model)(host)


@SLASH.command("/settings", palette="Settings", needs_screen=True)
def settings(host: ScreenHost) -> None:
    """All parameters on one screen."""
    host.show_settings()


def _complete_themes(host: ScreenHost, typed: str) -> list[tuple[str, str]]:
    return [(name, "") for name in sorted(host.themes()) if name.startswith(typed)]


@SLASH.command(
    "/theme", argument=Argument("[NAME]", completer=_complete_themes), palette="Theme", needs_screen=True
)
def theme(host: ScreenHost, name: str | None) -> None:
    """Change the colours."""
    if name is None:
        host.choose_theme()
    elif name in host.themes():
        host.use_theme(name)
    else:
        raise ValueError(f"There is no theme {name!r}.{nearest(name, host.themes())} /theme alone shows all.")


# Files.


@SLASH.command("/file", argument=Argument("PATH...", read_names, lambda _, typed: offers_of_path(typed)))
def file(host: Host, names: Sequence[str]) -> Awaitable[None] | None:
    """Attach files, folders or globs to your next message."""
    return host.attach(names)


# Replies.


@SLASH.command("/regen", "/regenerate", palette="Another reply")
def regenerate(host: Host) -> None:
    """Another reply to the same question, beside the old one."""
    host.spawn(host.session.branches.regenerate(last_reply(host).id))


@SLASH.command("/continue", palette="Continue the reply")
def go_on(host: Host) -> None:
    """Go on with the last reply."""
    host.spawn(host.session.branches.continue_reply(last_reply(host).id))


@SLASH.command("/edit", needs_screen=True)
def edit(host: ScreenHost) -> None:
    """Edit your last message: a new branch."""
    message = last(host, "user")
    if message is None:
        raise ValueError("There is no message to edit yet.")
    host.edit(message.id)


@SLASH.command("/branch", argument=Argument("[N]", read_number))
def branch(host: Host, back: int | None) -> None:
    """Go back N messages and branch there."""
    path = host.session.path()
    back = back or 1
    if back >= len(path):
        raise ValueError(f"The chat has {len(path)} messages, so one can go back fewer than that.")
    host.session.branches.branch(path[-1 - back].id)


def find_block(host: Host, number: int) -> str:
    """A code block of the newest reply that has any. Raises ValueError with a sentence."""
    replies = (one for one in reversed(host.session.path()) if one.role == "assistant")
    blocks = next(filter(None, (code_blocks(one.content) for one in replies)), [])
    if not blocks:
        raise ValueError("There is no block of code in this chat yet.")
    if number > len(blocks):
        there = "one block" if len(blocks) == 1 else f"{len(blocks)} blocks"
        raise ValueError(f"The last reply with code has {there} of it.")
    return blocks[number - 1]


def read_block(text: str) -> int:
    """The number of a code block; the word `code` before it may be left out."""
    what, _, number = text.partition(" ")
    return read_number((number.strip() or "1") if what.lower() == "code" else text)


@SLASH.command(
    "/copy",
    argument=Argument("[N | code]", read_block, words(("code", "the first block of code; N: the Nth"))),
    palette="Copy the last reply",
    needs_screen=True,
)
def copy(host: ScreenHost, block: int | None) -> None:
    """Copy the last reply, or the Nth block of code."""
    host.copy(last_reply(host).content if block is None else find_block(host, block))


def read_block_and_file(text: str) -> tuple[int, Path]:
    """The number of a code block, and where it is to go."""
    number, _, name = text.partition(" ")
    if not name.strip():
        raise ValueError("A number and a file are wanted")
    return read_number(number), read_path(name.strip())


@SLASH.command("/write", argument=Argument("N FILE", read_block_and_file))
async def write(host: Host, wanted: tuple[int, Path]) -> None:
    """Save the Nth block of code as a new file."""
    number, path = wanted
    text = find_block(host, number) + "\n"
    try:
        await asyncio.to_thread(_write_new, path, text)
    except FileExistsError:
        raise ValueError(f"{path} exists already; name another file.") from None
    host.note(f"Block {number} is written to {path.absolute()}.")


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


@SLASH.command("/tokens", argument=Argument("[TEXT]"), needs_screen=True)
async def tokens(host: ScreenHost, text: str | None) -> None:
    """How the model splits a text, or the last message."""
    path = host.session.path()
    if text is None and not path:
        raise ValueError("There is no message yet. As in: /tokens TEXT")
    await host.show_tokens(text if text is not None else path[-1].content)


@SLASH.command("/inspect", palette="Inspect tokens", needs_screen=True)
def inspect(host: ScreenHost) -> None:
    """Each token of the last reply: probability, alternatives."""
    host.inspect(last_reply(host).id)


def read_all(text: str) -> str:
    """Raises ValueError with a phrase for anything but `all`."""
    if text.lower() != "all":
        raise ValueError(f"{text!r} is not `all`")
    return text


@SLASH.command(
    "/stats",
    argument=Argument("[all]", read_all, words(("all", "by month and model, over all chats"))),
    palette="What the last reply cost",
)
def stats(host: Host, all: str | None) -> None:
    """What the last reply cost; `all`: what all chats cost, by month and model."""
    if all:
        host.show_text("All chats", usage_table(host.session.usage()))
        return
    timings = last_reply(host).x.get("timings")
    if not isinstance(timings, dict):
        raise ValueError("The last reply has no timings.")
    host.show_text("The last reply", verbose_timings(timings, host.session.model.load_s))
