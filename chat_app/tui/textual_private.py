"""Textual's private parts that the app uses: all of them, with the version they were tested with.

Nobody else in the app imports a private module of Textual or reaches for a private attribute of its objects.
What is overridden under a private name stands in `OVERRIDDEN`. A test says which of them a version lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from textual._dispatch_key import dispatch_key
from textual._parser import ParseError
from textual._time import get_time
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.app import App
from textual.binding import BindingsMap, Keymap
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.driver import Driver
from textual.screen import Screen
from textual.widgets import Input, TextArea

TESTED = "8.2.8"

# (class, name): methods that are overridden, or called by their overrides.
OVERRIDDEN: tuple[tuple[type, str], ...] = (
    (App, "_check_bindings"),
    (App, "_handle_exception"),
    (App, "_on_key"),
    (App, "_suspend_signal"),
    (Input, "_on_paste"),
    (TextArea, "_on_key"),
    (TextArea, "_on_paste"),
    (XTermParser, "_sequence_to_key_events"),
    (Screen, "_modal_binding_chain"),
    (Stylesheet, "_parse_rules"),
)

__all__ = [
    "BRACKETED_PASTE_END",
    "BRACKETED_PASTE_START",
    "ParseError",
    "XTermParser",
    "binding_chain",
    "can_suspend",
    "dispatch_key",
    "driver_of",
    "get_time",
    "is_ending",
    "keymap_of",
    "loop_of",
    "timeout_of",
]


def binding_chain(screen: Screen[Any]) -> Sequence[tuple[DOMNode, BindingsMap]]:
    """The nodes whose bindings are in force, the focused one first."""
    return screen._modal_binding_chain


def is_ending(app: App[Any]) -> bool:
    """Whether `exit` was called."""
    return app._exit


def keymap_of(app: App[Any]) -> Keymap:
    """The keys that the user chose, by the ids of bindings: several are separated by commas."""
    return app._keymap


def driver_of(app: App[Any]) -> Driver | None:
    """What the app speaks to its terminal through; None before it runs."""
    return app._driver


def loop_of(app: App[Any]) -> asyncio.AbstractEventLoop | None:
    """The event loop that the app runs in; None before it runs."""
    return app._loop


def can_suspend(app: App[Any]) -> bool:
    """Whether the terminal can be given away."""
    driver = driver_of(app)
    return driver is not None and driver.can_suspend


def timeout_of(parser: XTermParser) -> float | None:
    """When the parser gives up a sequence that does not go on; None where it waits for none."""
    return parser._timeout_time
