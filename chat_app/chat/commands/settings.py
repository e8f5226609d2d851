"""The slash commands that change and show settings."""

from __future__ import annotations

from collections.abc import Callable

from chat_app.chat.commands.host import Host, ScreenHost
from chat_app.chat.commands.model import system
from chat_app.chat.commands.table import SLASH
from chat_app.chat.slash import Argument, words
from chat_app.config.settings import PARAMETERS, parameter_values, set_parameter
from chat_app.text.errors import nearest
from chat_app.text.formatting import mib


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
