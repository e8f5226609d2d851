"""Presets as the chat keeps, takes and drops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat_app.config.paths import ensure_dir
from chat_app.config.presets import (
    no_preset,
    preset_file,
    preset_names,
    preset_of,
    preset_toml,
    read_preset,
    unusual,
    with_preset,
    without_presets,
)
from chat_app.config.settings import with_advice
from chat_app.config.sources import load_settings
from chat_app.files.durable import replace_file
from chat_app.text.sanitize import clean_line

LONGEST_SHOWN = 40

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController


def save_preset(session: ChatController, name: str) -> str:
    """Keep the model and what is chosen under a name; returns a sentence. Raises ValueError, OSError."""
    path = preset_file(name)
    is_new = not path.exists()
    ensure_dir(path.parent)
    values = preset_of(session.settings)
    replace_file(path, preset_toml(values).encode())
    said = unusual(values)
    rest = "; all else as it is by default" if len(said) < len(values) else ""
    return f"Preset {name} is {'saved' if is_new else 'replaced'}: {', '.join(said)}{rest}."


def take_preset(session: ChatController, name: str) -> str | None:
    """Set what the preset says, in place of what one before it set. Returns the model that it wants, where
    that is another one. Raises ValueError, and then nothing is changed."""
    values = read_preset(name)
    with_preset(session.settings, name, values)  # whether all of it can be taken
    settings = without_presets(session.settings, load_settings())
    settings = with_preset(settings, name, {key: value for key, value in values.items() if key != "model"})
    info, model = session.model.info, values.get("model")
    if model is not None and model != session.settings.model:
        session.settings = settings  # the model is loaded with them
        return str(model)
    session.change_settings(settings if info is None else with_advice(settings, info.advice))
    return None


def delete_preset(name: str) -> None:
    """Raises ValueError with a sentence where there is none, OSError where it cannot go."""
    if not preset_file(name).exists():
        raise no_preset(name)
    preset_file(name).unlink()


def preset_table() -> str:
    """What each preset sets, one a line; one that cannot be read says why."""
    names = preset_names()
    width = max(map(len, names), default=0)
    return "\n".join(f"{name:<{width}}  {_told(name)}" for name in names)


def _told(name: str) -> str:
    try:
        values = read_preset(name)
    except ValueError as error:
        return str(error)
    told = [f"{key} {clean_line(str(values[key]), LONGEST_SHOWN)}" for key in unusual(values)]
    rest = ["all else as it is by default"] if len(told) < len(values) else []
    return " · ".join([*told, *rest])
