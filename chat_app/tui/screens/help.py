"""All keys and commands, read from the bindings and the command table themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.commands import SLASH
from chat_app.config.key_names import long_keys
from chat_app.tui.key_words import KeyWords, fill
from chat_app.tui.screens.dialog import Dialog

KeyGroups = Sequence[tuple[str, Iterable[BindingType]]]  # headlines and the bindings below them
Part = str | tuple[str, str]
COLUMN = 28  # where the second column begins


def _bindings(found: Iterable[BindingType]) -> list[Binding]:
    return [one for one in found if isinstance(one, Binding) and one.id and one.description]


def entry(name: str, text: str, width: int) -> list[Part]:
    """A name and what it does, in the second column; on the next line where the name is too long for it."""
    room = max(10, width - COLUMN)
    lines = textwrap.wrap(text, room) or [""]
    head = f"  {name}"
    gap = " " * (COLUMN - len(head)) if len(head) < COLUMN else "\n" + " " * COLUMN
    return [(head, "bold $text-accent"), gap + ("\n" + " " * COLUMN).join(lines) + "\n"]


class HelpText(Static):
    """All of it, wrapped to the width there is."""

    def __init__(self, groups: KeyGroups, keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._groups = [(headline, _bindings(found)) for headline, found in groups]
        self._keymap = keymap

    def on_resize(self) -> None:
        """Wrap the text anew to the width."""
        self.update(self._body(self.size.width))

    def _body(self, width: int) -> Content:
        parts: list[Part] = []
        every = {one.id or "": one for _, bindings in self._groups for one in bindings}
        for headline, bindings in self._groups:
            parts.append((f"{fill(self.app, headline, every)}\n", "bold $text-primary"))
            for binding in bindings:
                keys = long_keys(self._keymap.get(binding.id or "") or binding.key)
                parts += entry(keys, binding.tooltip or binding.description, width)
            parts.append("\n")
        parts.append(("Commands\n", "bold $text-primary"))
        for command in SLASH:
            parts += entry(", ".join((command.usage, *command.aliases)), command.help, width)
        mouse = fill(self.app, " · the mouse selects text, {chat.interrupt} copies it", every)
        parts += [
            ('\nA block in """ sends several lines', "$foreground 60%"),
            (mouse, "$foreground 60%"),
            ("\nKeys can be changed in config.toml: [keymap] with the ids ", "$foreground 60%"),
            (", ".join(every), "$foreground 60%"),
        ]
        return Content.assemble(*parts)


class HelpScreen(Dialog[None]):
    """Keys as they are now, remapped ones included."""

    def __init__(self, groups: KeyGroups, keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._text = HelpText(groups, keymap)

    def compose(self) -> ComposeResult:
        """The text in a box that scrolls."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content("Keys and commands"), classes="dialog-title")
            with VerticalScroll(classes="dialog-body", can_focus=True):
                yield self._text
            yield KeyWords("{dialog.close} closes")
