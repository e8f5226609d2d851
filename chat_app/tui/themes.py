"""The app's own colours. Textual's themes stand beside them, those of the terminal's palette included."""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

DARK = "llama-dark"
LIGHT = "llama-light"

# Textual's two themes of the terminal's own colours, with those of the sixteen that can be read as text on
# most terminals (`contrast.py`), and with different ones for you and for the model.
_OWN_DARK, _OWN_LIGHT = BUILTIN_THEMES["ansi-dark"], BUILTIN_THEMES["ansi-light"]

THEMES = (
    replace(
        _OWN_DARK,
        primary="ansi_bright_yellow",
        secondary="ansi_bright_cyan",
        accent="ansi_bright_green",
        success="ansi_bright_green",
        warning="ansi_bright_yellow",
        error="ansi_bright_red",
    ),
    replace(
        _OWN_LIGHT,
        primary="ansi_blue",
        secondary="ansi_magenta",
        accent="ansi_blue",
        success="ansi_blue",
        warning="ansi_magenta",
        error="ansi_red",
    ),
    Theme(
        name=DARK,
        primary="#e3a857",
        secondary="#7fb4ca",
        accent="#a9c476",
        warning="#e0af68",
        error="#e46876",
        success="#98bb6c",
        foreground="#dcd7cc",
        background="#16171d",
        surface="#1b1d24",
        panel="#22252e",
        dark=True,
        variables={"border": "#e3a857", "border-blurred": "#3a3e4a"},
    ),
    Theme(
        name=LIGHT,
        primary="#a1560b",
        secondary="#22688a",
        accent="#4d6f14",
        warning="#9a6700",
        error="#b3261e",
        success="#3f7d20",
        foreground="#2c2a26",
        background="#fbf8f3",
        surface="#f4efe6",
        panel="#ebe4d7",
        dark=False,
        variables={"border": "#a1560b", "border-blurred": "#cfc4b0"},
    ),
)
