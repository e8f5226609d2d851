"""Presets: settings under a name. Each is a TOML file of its own, whose keys are the names of settings."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.config.grammars import BIAS
from chat_app.config.paths import get_paths
from chat_app.config.settings import BY_NAME, PARAMETERS, Settings, set_value
from chat_app.config.values import TEXT
from chat_app.text.errors import nearest
from llama_core.constraints.grammar import GRAMMAR_KINDS, Grammar
from llama_core.ordinary_files import read_ordinary

MAX_BYTES = 1 << 16
ENDING = ".toml"
SOURCE = "preset "  # before its name: where a value was chosen
# What a preset may set, and of that what a chat that runs takes at once.
LIVE = ("system", *PARAMETERS, *GRAMMAR_KINDS)
NAMES = ("model", *LIVE)
_NAME = re.compile(r"\w[\w.-]{0,39}")


def preset_file(name: str) -> Path:
    """Where a preset stands, whether it is there or not. Raises ValueError where it can have no such name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a preset: letters, digits, -, _ and . make one.")
    return get_paths().presets / f"{name}{ENDING}"


def preset_names() -> list[str]:
    """Those there are, by name."""
    return sorted(path.stem for path in get_paths().presets.glob(f"*{ENDING}") if _NAME.fullmatch(path.stem))


def read_preset(name: str) -> dict[str, Any]:
    """What a preset sets, by the setting's name. Raises ValueError with a sentence where there is none, or
    where it cannot be read."""
    path = preset_file(name)
    try:
        data = read_ordinary(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 10} KiB")
        values = tomllib.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise no_preset(name) from None
    except OSError as error:
        raise ValueError(f"{path} could not be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} could not be used: {error}.") from None
    return values


def no_preset(name: str) -> ValueError:
    """The error that says so, and which there are."""
    known = preset_names()
    there = f" There are: {', '.join(known)}." if known else " /preset save NAME makes one."
    return ValueError(f"There is no preset {name!r}.{nearest(name, known) or there}")


def with_preset(settings: Settings, name: str, values: Mapping[str, Any]) -> Settings:
    """`settings` with the values of the preset `name`. Raises ValueError with a sentence."""
    for key, value in values.items():
        row = BY_NAME.get(key)
        if row is None or row.name not in NAMES:
            raise ValueError(f"Preset {name}: it cannot set {key!r}.{nearest(key, NAMES)}")
        try:
            settings = set_value(settings, row.name, value, SOURCE + name)
        except ValueError as error:
            raise ValueError(f"Preset {name}: {error}") from None
    return settings


def without_presets(settings: Settings, base: Settings) -> Settings:
    """`settings` with what presets set, the model aside, as it is in `base`."""
    for name in LIVE:
        if settings.chosen.get(name, "").startswith(SOURCE):
            chosen = {key: source for key, source in settings.chosen.items() if key != name}
            if name in base.chosen:
                chosen[name] = base.chosen[name]
            row = BY_NAME[name]
            settings = replace(row.with_value(settings, row.of(base)), chosen=chosen)
    return settings


def set_by_presets(settings: Settings) -> set[str]:
    """What presets set of that which a stored chat is held with: "model", "system", "parameters"."""
    names = {name for name, source in settings.chosen.items() if source.startswith(SOURCE)}
    return {name if name in ("model", "system") else "parameters" for name in names}


def preset_of(settings: Settings) -> dict[str, Any]:
    """The model, and what was chosen of the rest, as a preset that gives the same."""
    chosen = [name for name in NAMES if name in settings.chosen or name in ("model", *GRAMMAR_KINDS)]
    written = {name: _written(name, settings) for name in chosen}
    found = {name: value for name, value in written.items() if value is not None}
    if Path(found["model"]).exists():
        found["model"] = str(Path(found["model"]).absolute())  # it holds wherever the app is started
    return found


def unusual(values: Mapping[str, Any]) -> list[str]:
    """The names of those values of a preset that are not what holds without one."""
    usual = {name: _written(name, Settings()) for name in LIVE}
    return [name for name, value in values.items() if name not in usual or value != usual[name]]


def _written(name: str, settings: Settings) -> Any:
    """A setting's value as a preset's file has it; None where it has no word for it."""
    value = BY_NAME[name].of(settings)
    if isinstance(value, Grammar):
        if value.kind != name:
            return None
        return value.text if name != "grammar" else f"{value.text}\n"  # else it names a file
    if name in GRAMMAR_KINDS:
        return None
    if value is None:
        return _word_for_none(name) or None
    if BY_NAME[name].kind is BIAS:
        return json.dumps({str(id): number for id, number in value})
    return list(value) if isinstance(value, tuple) else value


def _word_for_none(name: str) -> str:
    """What the setting reads as no value; empty where there is no such word."""
    for word in () if BY_NAME[name].kind is TEXT else ("none", "auto"):
        with contextlib.suppress(ValueError):
            if BY_NAME[name].kind.read(word) is None:
                return word
    return ""


def preset_toml(values: Mapping[str, Any]) -> str:
    """The text of a preset's file. Its texts are escaped as in JSON, which TOML shares but for DEL."""
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
    return "".join(lines).replace("\x7f", "\\u007f")
