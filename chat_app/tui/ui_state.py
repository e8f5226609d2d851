"""What the app remembers between two starts without being told: the theme and the panel's form."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from chat_app.config.paths import ensure_dir
from chat_app.files.durable import replace_file
from llama_core.ordinary_files import read_ordinary

MAX_BYTES = 1 << 16


def read_ui_state(path: Path) -> dict[str, str]:
    """Empty where the file is missing or damaged: nothing depends on it."""
    try:
        value = json.loads(read_ordinary(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}


def write_ui_state(path: Path, state: Mapping[str, str]) -> None:
    """Losing it is a pity and no error."""
    with contextlib.suppress(OSError):
        ensure_dir(path.parent)
        replace_file(path, json.dumps(dict(state)).encode())
