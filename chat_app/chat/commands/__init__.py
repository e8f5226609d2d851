"""The slash commands. Each is one function; who runs it is its `Host`: the screen, or the line chat.

The order of these imports is the order in which the help shows them.
"""

from __future__ import annotations

# isort: off
from chat_app.chat.commands import chats, model, settings, replies
from chat_app.chat.commands.host import Host, ScreenHost
from chat_app.chat.commands.table import SLASH

# isort: on
__all__ = ["SLASH", "Host", "ScreenHost", "chats", "model", "replies", "settings"]
