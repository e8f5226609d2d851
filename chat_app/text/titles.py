"""A short title for a chat, made from how it begins: what is asked, without what only leads up to it."""

from __future__ import annotations

import re
from typing import Final

from chat_app.text.sanitize import clean_line

LENGTH: Final = 48
_FEW_WORDS: Final = 3  # fewer say too little alone: "Fix this"
_FENCE: Final = re.compile(r"^ {0,3}(```|~~~).*$", re.MULTILINE)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_MENTION: Final = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')
_LEAD_IN: Final = re.compile(
    r"(?:(?:hi|hello|hey|ok|okay|so|well|now|thanks|thank you)(?: there| again| everyone)?[,.!:]+\s*"
    r"|(?:please|kindly|just)\b,?\s*"
    r"|(?:can|could|would|will) you(?: please| kindly)?\s+"
    r"|i(?:'d| would) like you to\s+|i (?:want|need) you to\s+"
    r"|(?:help me|i (?:want|need|would like) help)(?: to| with)?\s+)",
    re.IGNORECASE,
)
_GREETING: Final = re.compile(r"(?:hi|hello|hey|thanks|thank you)(?: there| again| everyone)?[,.!: ]*", re.I)
_SPACE: Final = re.compile(r"\s+")


def title_of(text: str) -> str:
    """What a chat that begins with `text` is about, on one line of at most LENGTH characters; "" for none.

    It is the first sentence that says something, with the next ones where it is too short to tell chats
    apart. Code and attached files come in only by their first words.
    """
    text = _MENTION.sub(lambda found: (found[1] or found[2]).rstrip("/").rpartition("/")[2], text)
    parts = [clean_line(part).strip(" \t#>*-") for part in _SENTENCE_END.split(_FENCE.sub("", text))]
    said = [part for part in parts if part and not _GREETING.fullmatch(part)]
    title = ""
    for part in map(_without_lead_in, said):
        title = f"{title} {part}" if title else part
        if len(title.split()) >= _FEW_WORDS or len(title) >= LENGTH:
            break
    return _shortened(title or clean_line(text).strip())


def _without_lead_in(part: str) -> str:
    """The part behind "Hello, could you please"; all of it where nothing else is there."""
    rest = part
    while (found := _LEAD_IN.match(rest)) is not None and rest[found.end() :].strip():
        rest = rest[found.end() :]
    return rest[:1].upper() + rest[1:] if rest != part else part


def _shortened(title: str) -> str:
    """At most LENGTH characters, cut behind a word where there is one; no full stop or colon at its end."""
    title = _SPACE.sub(" ", title).strip()
    if len(title) <= LENGTH:
        return title.rstrip(" .:;,") or title
    cut = title[: LENGTH - 1]
    head = cut.rpartition(" ")[0] if title[LENGTH - 1] != " " else cut
    return (head if len(head) >= LENGTH // 2 else cut).rstrip(" .:;,-") + "…"
