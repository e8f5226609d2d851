"""Keys as people write them."""

from __future__ import annotations

_NAMES = {
    "escape": "Esc",
    "enter": "Enter",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "tab": "Tab",
    "end": "End",
    "home": "Home",
    "space": "Space",
    "backspace": "Backspace",
    "delete": "Del",
}


def long_key(key: str) -> str:
    """`Ctrl+N`, `Shift+Enter`, `F1`, `y`."""
    *modifiers, last = key.strip().split("+")
    name = _NAMES.get(last)
    if name is None:
        is_function = last[:1] == "f" and last[1:].isdecimal()
        name = last.upper() if modifiers or is_function else last
    return "+".join([*(one.capitalize() for one in modifiers), name])


def long_keys(keys: str) -> str:
    """Several, as a binding writes them: separated by commas."""
    return ", ".join(long_key(key) for key in keys.split(",") if key.strip())


def short_key(key: str) -> str:
    """`^N` for Ctrl+N; otherwise the long name."""
    return long_key(key).replace("Ctrl+", "^")
