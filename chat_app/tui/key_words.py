"""Sentences that name keys: the id of a binding in braces becomes the key that the user has for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from inspect import getmro
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.content import Content
from textual.dom import DOMNode
from textual.widgets import Static

from chat_app.config.key_names import long_key
from chat_app.tui.textual_private import keymap_of

_ID = re.compile(r"\{([a-z_]+\.[a-z_]+)\}")


def first_key(app: App[Any], binding: Binding) -> str:
    """The first key of a binding as Textual writes it, the keymap of the app included."""
    return (keymap_of(app).get(binding.id or "") or binding.key).split(",")[0]


def key_name(app: App[Any], binding: Binding) -> str:
    """The same as people write it: `Ctrl+S`, `Esc`, `d`."""
    return long_key(first_key(app, binding))


def declared(kinds: Iterable[type]) -> dict[str, Binding]:
    """The bindings with an id that kinds of nodes declare, theirs or inherited, with all of their keys."""
    rows = (one for kind in kinds for each in getmro(kind) for one in each.__dict__.get("BINDINGS", ()))
    return {one.id: one for one in rows if isinstance(one, Binding) and one.id}


def fill(app: App[Any], words: str, found: Mapping[str, Binding]) -> str:
    """`words` with each `{id}` replaced by the key of the binding that is called so. Raises KeyError for an
    id that none of them has."""
    return _ID.sub(lambda match: key_name(app, found[match[1]]), words)


def with_keys(node: DOMNode, words: str, *others: type[DOMNode]) -> str:
    """`words` with the keys of a node that is on a screen, of what holds it, and of other kinds of nodes:
    `"{dialog.close} closes"`. Raises KeyError for an id that none of them has."""
    return fill(node.app, words, declared([*map(type, node.ancestors_with_self), *others]))


class KeyWords(Static, can_focus=False):
    """A line that says which key does what, on the screen that has these keys."""

    def __init__(self, words: str, *, id: str | None = None, classes: str = "dialog-hint") -> None:
        """words: as `with_keys` takes them."""
        super().__init__(id=id, classes=classes)
        self._words = words

    def on_mount(self) -> None:
        """Where it stands is known now, and so are the keys."""
        self.say(self._words)

    def say(self, words: str) -> None:
        """Other words from now on."""
        self.update(Content(with_keys(self, words)))
