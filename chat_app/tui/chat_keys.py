"""The keys of a chat, with the words that the footer, the help and the palette have for them."""

from __future__ import annotations

from textual.binding import Binding, BindingType


def _key(keys: str, name: str, action: str, label: str, tip: str = "", *, first: bool = True) -> Binding:
    """name: in the keymap of config.toml, behind "chat."; tip: what it does, where the label does not say it;
    first: before the focused widget sees the key."""
    return Binding(keys, action, label, id=f"chat.{name}", priority=first, tooltip=tip)


CHAT_KEYS: list[BindingType] = [
    _key("escape", "stop", "stop", "Stop", "Stop; what is written stays", first=False),
    _key("ctrl+c", "interrupt", "interrupt", "Copy, stop or quit"),
    _key("ctrl+n", "new", "new_chat", "New", "New chat"),
    _key("ctrl+r", "history", "history", "Chats", "All chats"),
    _key("ctrl+l", "reset", "reset", "Reset", "Empty the KV cache; the transcript stays"),
    _key("ctrl+f", "find", "find", "Find", "Find in this chat"),
    _key("ctrl+o", "panel", "panel", "Panel", "The live numbers: a line, a card, a lab, hidden"),
    _key("alt+l", "panel_more", "panel_more", "Rest of the panel", "What of the panel is out of sight below"),
    _key("ctrl+g", "editor", "editor", "Prompt in $EDITOR"),
    _key("alt+up", "select_previous", "select(-1)", "Select"),
    _key("alt+down", "select_next", "select(1)", "Next message"),
    _key("pageup", "page_up", "page(-1)", "Scroll up"),
    _key("pagedown", "page_down", "page(1)", "Scroll down"),
    _key(
        "alt+t", "thought", "thought", "Thought", "Unfold or fold the thought of the reply, or attached files"
    ),
    _key("alt+a", "answer_now", "answer_now", "Answer now", "End the thought; the answer begins"),
    _key(
        "alt+x",
        "cut_loop",
        "cut_loop",
        "Cut loop",
        "Cut a reply where it began to repeat itself, and choose another token there",
    ),
    _key("alt+p", "tint", "tint", "Tint", "Tint replies by how probable their words were"),
    _key("alt+w", "tokens", "tokens", "Tokens", "Walk through the tokens of a tinted reply"),
    _key("alt+d", "times", "times", "Times", "Show when each message was written"),
    _key("alt+pagedown", "next_code", "code(1)", "Next code block"),
    _key("alt+pageup", "previous_code", "code(-1)", "Previous code block"),
    _key("ctrl+end", "to_end", "to_end", "To the newest text"),
]
