"""Where settings come from: a flag beats a `LLAMA_CHAT_*` variable, which beats config.toml.

Nothing in the file or the environment can stop the app: faults become notices.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_app.config.endpoints import KEY_VARIABLE, EndpointError, endpoint_of_table
from chat_app.config.key_names import BINDING_IDS
from chat_app.config.paths import HOME_VARIABLE, KERNELS_VARIABLE, get_paths
from chat_app.config.presets import read_preset, with_preset
from chat_app.config.settings import BY_NAME, VARIABLE_PREFIX, Settings, set_parameter, set_value
from chat_app.text.errors import nearest
from chat_app.text.sanitize import clean_line
from llama_core.ordinary_files import read_ordinary
from llama_core.trusted_files import UntrustedFileError, read_trusted

# Variables that are no settings: where the folders are, whether faults show a traceback, the tests' model.
OTHER_VARIABLES = {HOME_VARIABLE, KERNELS_VARIABLE, VARIABLE_PREFIX + "DEBUG", VARIABLE_PREFIX + "TEST_MODEL"}
OTHER_VARIABLES |= {KEY_VARIABLE, VARIABLE_PREFIX + "API_KEY"}  # of an engine elsewhere, and of `serve`
# tomllib takes time by the square of a key's length: half a second for the longest that fits.
MAX_CONFIG_BYTES = 1 << 16
SECTIONS = ("parameters", "keymap")
ENGINES = "engines"
MAX_NOTICES = 20
MAX_NOTICE_CHARS = 400


def apply_config(settings: Settings, path: Path | None = None) -> Settings:
    """`settings` with what config.toml says. A missing file says nothing; faults are added to the notices."""
    path = path or get_paths().config_file
    try:
        data = read_ordinary(path, MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            return _notice(settings, f"{path} is larger than {MAX_CONFIG_BYTES >> 10} KiB and was not read.")
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        return settings
    except OSError as error:
        return _notice(settings, f"{path} could not be read: {error.strerror or error}.")
    except (ValueError, RecursionError) as error:  # also text that is no UTF-8, numbers of too many digits
        return _notice(settings, f"{path} is no valid TOML and was not used: {error}.")

    def where(key: str) -> str:
        match = re.search(rf"^\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]", text, re.MULTILINE)
        line = text[: match.start() + match[0].index(key)].count("\n") + 1 if match else 0
        return f"{path}, line {line}" if line else str(path)

    if table.pop(ENGINES, None) is not None:
        settings = _with_engines(settings, path)
    return _apply_table(settings, table, where)


def _with_engines(settings: Settings, path: Path) -> Settings:
    """What `[engines]` says, where nobody else can have written it: chats are sent to these servers. The file
    is read once more, by the reader that checks who could write it."""
    try:
        table = tomllib.loads(read_trusted(path).decode("utf-8")).get(ENGINES)
    except (UntrustedFileError, OSError, ValueError, RecursionError) as error:
        return _notice(settings, f"[engines] in {path} was not used: {error}.")
    if not isinstance(table, dict):
        return _notice(settings, f"{path}: engines must be tables, as in [engines.NAME].")
    for name, entry in table.items():
        try:
            settings = replace(settings, engines={**settings.engines, name: endpoint_of_table(name, entry)})
        except EndpointError as error:
            settings = _notice(settings, f"{path}: [engines.{name}] was not used: {error}.")
    return settings


def _apply_table(settings: Settings, table: Mapping[str, Any], where: Callable[[str], str]) -> Settings:
    told_before = len(settings.notices)
    for section, name, value in _entries(table):
        if len(settings.notices) - told_before >= MAX_NOTICES:
            return _notice(settings, "So much is wrong that the rest of the file was not used.")
        if section == "keymap":
            settings = _set_key(settings, where, name, value)
        elif section or name in BY_NAME:
            settings = _set(settings, where(name), name, value)
        elif name in SECTIONS:
            settings = _notice(settings, f"{where(name)}: {name} must be a table, as in [{name}].")
        else:
            hint = nearest(name, [*BY_NAME, *SECTIONS, ENGINES])
            settings = _notice(settings, f"{where(name)}: there is no setting {name!r}.{hint}")
    return settings


def _entries(table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Section ("" for none), name and value of all that the file sets."""
    for key, value in table.items():
        if key in SECTIONS and isinstance(value, dict):
            yield from ((key, name, item) for name, item in value.items())
        else:
            yield "", key, value


def _set_key(settings: Settings, where: Callable[[str], str], name: str, keys: Any) -> Settings:
    if not isinstance(keys, str):
        return _notice(settings, f'{where(name)}: the keys of {name!r} must be text, as in "f2".')
    if name not in BINDING_IDS:
        hint = nearest(name, list(BINDING_IDS))
        settings = _notice(settings, f"{where(name)}: there is no key {name!r} to change.{hint}")
    return replace(settings, keymap={**settings.keymap, name: keys})


def _set(settings: Settings, where: str, name: str, value: Any) -> Settings:
    """One setting or parameter; a fault leaves the value that was there and adds a notice."""
    try:
        return set_value(settings, name, value, os.path.basename(where))  # the file is known by its name
    except ValueError as error:
        return _notice(settings, f"{where}: {error}")


def apply_environment(settings: Settings, environ: Mapping[str, str] | None = None) -> Settings:
    """`settings` with `LLAMA_CHAT_MODEL`, `LLAMA_CHAT_TEMPERATURE` and so on; faults become notices."""
    environ = os.environ if environ is None else environ
    for variable, text in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or variable in OTHER_VARIABLES or not text:
            continue
        name = variable[len(VARIABLE_PREFIX) :].lower()
        if name in BY_NAME:
            settings = _set(settings, variable, name, text)
        else:
            hint = nearest(variable, [VARIABLE_PREFIX + known.upper() for known in BY_NAME])
            settings = _notice(settings, f"The variable {variable} names no setting.{hint}")
    return settings


def _notice(settings: Settings, sentence: str) -> Settings:
    return replace(settings, notices=(*settings.notices, clean_line(sentence, MAX_NOTICE_CHARS)))


def load_settings(
    flags: Mapping[str, Any] | None = None,
    parameters: Iterable[tuple[str, str]] = (),
    preset: str | None = None,
) -> Settings:
    """Defaults, then config.toml, `LLAMA_CHAT_*`, the `preset` of that name, then `parameters` and `flags`.

    flags: values by the setting's name. parameters: names and texts, as of `-o`. What is wrong in the file or
    the environment becomes a notice; a bad flag, parameter or preset raises ValueError. What the model's
    makers advise comes when it is loaded (`with_advice`).
    """
    settings = apply_environment(apply_config(Settings()))
    if preset is not None:
        settings = with_preset(settings, preset, read_preset(preset))
    for name, text in parameters:
        settings = set_parameter(settings, name, text, "-o")
    for name, value in (flags or {}).items():
        row = BY_NAME[name]
        settings = row.put(settings, value, row.flags[-1] if row.flags else "given")
    return settings
