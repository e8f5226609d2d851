"""All generation parameters on one screen, under ollama's names, checked as one types."""

from __future__ import annotations

import json
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static, TextArea

from chat_app.config.settings import BY_NAME, PARAMETERS, Settings, parameter_values, set_parameter
from chat_app.text.sanitize import clean
from chat_app.tui.key_words import with_keys
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.inputs import CleanInput, CleanTextArea

ROWS = {name: row for name, row in PARAMETERS.items() if not row.for_measuring}


def _value_text(value: object) -> str:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else str(value)


def typed_value(name: str, typed: str) -> str:
    """What `set_parameter` takes: here the stop texts typed are all there are, not one more."""
    if name != "stop":
        return typed or "none"
    if typed.startswith(("[", '"')):
        return typed if typed.startswith("[") else f"[{typed}]"
    return json.dumps([typed] if typed else [])


class SettingsScreen(Dialog[Settings]):
    """The new settings, or None when nothing is to change."""

    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012 - Textual declares it so
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "apply", "Apply", id="settings.apply", priority=True)
    ]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._values = parameter_values(settings)

    def compose(self) -> ComposeResult:
        """The system prompt above, then one row a parameter: name, value, help."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content("Settings of this session"), classes="dialog-title")
            with VerticalScroll(classes="dialog-body", can_focus=False):
                system = CleanTextArea(self._settings.system or "", id="settings-system", soft_wrap=True)
                system.border_title = "System prompt"  # a line above would scroll away
                yield system
                with Grid(id="settings-grid"):
                    for name, parameter in ROWS.items():
                        yield Static(Content(name), classes="settings-name")
                        yield CleanInput(
                            _value_text(self._values[name]),
                            id=f"set-{name}",
                            placeholder="none" if parameter.group == "sampling" else "default",
                            compact=True,
                        )
                        source = self._settings.source_of(name)
                        help = f"[{clean(source)}] {parameter.help}" if source else parameter.help
                        yield Static(Content(help), classes="settings-help")
            yield Static("", id="settings-problem")
            with Horizontal(classes="dialog-buttons"):
                yield Button(
                    with_keys(self, "Apply ({settings.apply})"), variant="primary", id="settings-apply"
                )
                yield Button(with_keys(self, "Cancel ({dialog.close})"), id="settings-cancel")

    def read(self) -> Settings:
        """The settings as typed. Raises ValueError with a sentence."""
        settings = self._settings
        for name in ROWS:
            typed = self.query_one(f"#set-{name}", Input).value.strip()
            if typed == _value_text(self._values[name]):
                continue
            settings = set_parameter(settings, name, typed_value(name, typed))
        system = self.query_one("#settings-system", TextArea).text.strip()
        if system != (self._settings.system or ""):
            settings = BY_NAME["system"].put(settings, system or None)
        return settings

    def on_input_changed(self) -> None:
        """Check all values while one types and show the first that is wrong."""
        try:
            self.read()
            problem = ""
        except ValueError as error:
            problem = str(error)
        self.query_one("#settings-problem", Static).update(Content(clean(problem)))

    def on_input_submitted(self) -> None:
        """Enter in a box applies the settings."""
        self.action_apply()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Apply, or close without a change."""
        if event.button.id == "settings-apply":
            self.action_apply()
        else:
            self.dismiss(None)

    def action_apply(self) -> None:
        """Close with the new settings; while a value is wrong, say which and stay open."""
        try:
            settings = self.read()
        except ValueError as error:
            self.query_one("#settings-problem", Static).update(Content(clean(str(error))))
            return
        self.dismiss(settings if settings != self._settings else None)
