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

# The ids of all bindings, for `[keymap]` in config.toml: here, since the settings are read without a screen.
BINDING_IDS = tuple(
    f"{place}.{name}"
    for place, names in {
        "app": "help offer palette quit settings",
        "chat": "answer_now cut_loop editor find history interrupt new next_code page_down page_up"
        " panel panel_more previous_code reset select_next select_previous stop thought times tint"
        " to_end tokens",
        "compact": "use",
        "compare": "both down first keep second up",
        "confirm": "no yes",
        "continuations": "down keep up",
        "dialog": "close",
        "find": "close next previous",
        "history": "delete export mark pin rename search undo",
        "inspector": "branch doubtful doubtful_before down draw first last next previous up",
        "message": "branch continue copy edit inspect menu next previous regenerate think_on",
        "overflow": "compact digest drop part raise stop",
        "prompt": "complete leave newer newline older send undo",
        "settings": "apply",
        "tokens": "branch doubtful doubtful_before down draw first inspect last leave next previous up",
    }.items()
    for name in names.split()
)


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
