"""The slash commands about the model and what it is told: system prompt, thoughts, schemas, presets."""

from __future__ import annotations

from typing import Any

from chat_app.chat.commands.host import Host, ScreenHost, offer_models, unquoted
from chat_app.chat.commands.table import SLASH
from chat_app.chat.presets import delete_preset, preset_table, save_preset, take_preset
from chat_app.chat.slash import Argument, words
from chat_app.config.grammars import SCHEMA
from chat_app.config.presets import preset_names
from chat_app.config.settings import BY_NAME, PARAMETERS
from chat_app.config.values import read_think
from llama_core.constraints.grammar import Grammar


def read_think_argument(text: str) -> tuple[Any]:
    """What `think` may be, in a tuple: None is one of the values. Raises ValueError with a phrase."""
    return (read_think(text),)


@SLASH.command("/reset", palette="Reset the KV cache")
def reset(host: Host) -> None:
    """Empty the KV cache; the transcript stays."""
    host.session.reset_cache()


@SLASH.command("/compact", palette="Compact: summarise the older turns")
def compact(host: Host) -> None:
    """Let the model summarise the older turns; a new branch goes on from there."""
    host.spawn(host.session.compact())


@SLASH.command(
    "/model",
    "/load",
    argument=Argument("[NAME|FILE|URL]", unquoted, offer_models),
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
