"""The app's own colours. Textual's themes stand beside them, those of the terminal's palette included."""

from __future__ import annotations

from textual.theme import Theme

DARK = "llama-dark"
LIGHT = "llama-light"

THEMES = (
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
