"""The table of slash commands, empty until their modules are imported."""

from __future__ import annotations

from chat_app.chat.slash import CommandTable

SLASH = CommandTable()
