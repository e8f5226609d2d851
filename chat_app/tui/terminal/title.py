"""The title of the terminal's window: which chat it is, and whether a reply is being written.

Sequences as xterm has them: OSC 2 sets the title, CSI 22;2 t puts the one before on a stack, CSI 23;2 t takes
it back. A terminal that knows none of them shows nothing of it.
"""

from __future__ import annotations

from chat_app.text.sanitize import clean_line

APP = "llama-chat"
WRITING = "●"
KEEP = "\x1b[22;2t"
BACK = "\x1b[23;2t"
MOST = 80


def title_of(chat: str, *, writing: bool) -> str:
    """What the window is called; `chat` is its title, any text."""
    name = clean_line(chat, MOST)
    named = f"{name} · {APP}" if name else APP
    return f"{WRITING} {named}" if writing else named


def sequence(title: str) -> str:
    """What sets the title, which is inert."""
    return f"\x1b]2;{title}\x1b\\"
