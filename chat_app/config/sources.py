"""Settings from config.toml and the environment. Nothing in either can stop the app: faults are notices."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.config.key_names import BINDING_IDS
from chat_app.config.paths import HOME_VARIABLE, get_paths
from chat_app.config.settings import PARAMETERS, READERS, Settings, nearest, set_parameter

PREFIX = "LLAMA_CHAT_"
# Variables that are no settings: where the folders are, whether faults show a traceback, the tests' model.
OTHER_VARIABLES = {HOME_VARIABLE, PREFIX + "DEBUG", PREFIX + "TEST_MODEL"}
MAX_CONFIG_BYTES = 1 << 20


def apply_config(settings: Settings, path: Path | None = None) -> Settings:
    """`settings` with what config.toml says. A missing file says nothing; faults are added to the notices."""
    path = path or get_paths().config_file
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            return _notice(settings, f"{path} is larger than 1 MiB and was not read.")
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        return settings
    except OSError as error:
        return _notice(settings, f"{path} could not be read: {error.strerror or error}.")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        return _notice(settings, f"{path} is no valid TOML and was not used: {error}.")

    def where(key: str) -> str:
        match = re.search(rf"^\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]", text, re.MULTILINE)
        line = text[: match.start() + match[0].index(key)].count("\n") + 1 if match else 0
        return f"{path}, line {line}" if line else str(path)

    return _apply_table(settings, table, where)


def _apply_table(settings: Settings, table: Mapping[str, Any], where: Callable[[str], str]) -> Settings:
    for key, value in table.items():
        if key == "parameters" and isinstance(value, dict):
            for name, item in value.items():
                settings = _set(settings, where(name), name, item)
        elif key == "keymap" and isinstance(value, dict):
            good = {name: keys for name, keys in value.items() if isinstance(keys, str)}
            for name in value.keys() - good.keys():
                settings = _notice(settings, f'{where(name)}: the keys of {name!r} must be text, as in "f2".')
            for name in good:
                if name not in BINDING_IDS:
                    hint = nearest(name, list(BINDING_IDS))
                    settings = _notice(settings, f"{where(name)}: there is no key {name!r} to change.{hint}")
            settings = replace(settings, keymap=good)
        elif key in READERS or key in PARAMETERS:
            settings = _set(settings, where(key), key, value)
        else:
            hint = nearest(key, [*READERS, *PARAMETERS, "parameters", "keymap"])
            settings = _notice(settings, f"{where(key)}: there is no setting {key!r}.{hint}")
    return settings


def _set(settings: Settings, where: str, name: str, value: Any) -> Settings:
    """One setting or parameter; a fault leaves the value that was there and adds a notice."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | float):
        text = str(value)
    elif isinstance(value, list) and name == "stop":
        import json

        text = json.dumps(value)
    else:
        return _notice(settings, f"{where}: {name} cannot be a {type(value).__name__}.")
    try:
        if name in READERS:
            return replace(settings, **{name: READERS[name](text)})
        return set_parameter(settings, name, text)
    except ValueError as error:
        problem = str(error) if name not in READERS else f"{name}: {error}."
        return _notice(settings, f"{where}: {problem}")


def apply_environment(settings: Settings, environ: Mapping[str, str] | None = None) -> Settings:
    """`settings` with `LLAMA_CHAT_MODEL`, `LLAMA_CHAT_TEMPERATURE` and so on; faults become notices."""
    environ = os.environ if environ is None else environ
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or not text:
            continue
        name = variable[len(PREFIX) :].lower()
        if name in READERS or name in PARAMETERS:
            settings = _set(settings, variable, name, text)
        else:
            hint = nearest(variable, [PREFIX + known.upper() for known in (*READERS, *PARAMETERS)])
            settings = _notice(settings, f"The variable {variable} names no setting.{hint}")
    return settings


def _notice(settings: Settings, sentence: str) -> Settings:
    return replace(settings, notices=(*settings.notices, sentence))
