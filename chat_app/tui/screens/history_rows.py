"""How the list of chats puts things: a row, a match, a time, a preview. A chat's text is data, not markup."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.cells import cell_len
from textual.content import Content

from chat_app.chat.conversation import Message
from chat_app.store.search import Hit, find_spans
from chat_app.store.summary import ChatSummary
from chat_app.text.sanitize import clean, clean_line
from llama_core.loaders.gguf.shard_names import model_stem

PREVIEW_MESSAGES = 12
PREVIEW_CHARACTERS = 1500
_TITLE_LENGTH = 200
_NAMES = {"system": "System", "user": "You", "assistant": "Assistant"}
_MATCH_STYLE = "bold $text-accent"
_MUTED = "$text-muted"
MARK = "● "  # before the title of a chat that is marked


def describe_time(iso: str, now: datetime) -> str:
    """A time in the zone of `now`, as people say it: 14:05, yesterday 14:05, Mon 16 Nov, 2 Nov 2025."""
    try:
        at = datetime.fromisoformat(iso).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return ""  # a chat without a readable time, from another program or damaged
    days = (now.date() - at.date()).days
    if days == 0:
        return f"{at:%H:%M}"
    if days == 1:
        return f"yesterday {at:%H:%M}"
    if 0 < days < 300:
        return f"{at:%a} {at.day} {at:%b}"
    return f"{at.day} {at:%b %Y}"


def group_of(chat: ChatSummary, now: datetime) -> str:
    """The headline under which a chat stands: when it was last written to, or that it is pinned."""
    if chat.pinned:
        return "Pinned"
    try:
        at = datetime.fromisoformat(chat.updated).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return "Without a date"
    days = (now.date() - at.date()).days
    if days <= 1:
        return "Yesterday" if days == 1 else "Today"
    if days < 7:
        return "This week"
    return f"{at:%B}" if at.year == now.year else f"{at:%B %Y}"


def headline(group: str) -> Content:
    """A group's name, above its chats."""
    return Content.styled(group, f"bold {_MUTED}")


def chat_row(chat: ChatSummary, now: datetime, *, marked: bool = False) -> Content:
    """Two lines: the title; when, with which model, how long."""
    return Content("\n").join([_title(chat, marked), _facts(chat, now)])


def hit_row(
    hit: Hit, terms: Iterable[str], now: datetime, width: int = 0, *, marked: bool = False
) -> Content:
    """Two lines: the title; when, and the place found with its matches marked, the first one in the middle
    where `width` cells (0: enough) do not hold the whole."""
    terms = list(terms)
    about = Content.styled(f"  {describe_time(hit.chat.updated, now)}  ", _MUTED)
    if hit.message_id is None:
        return Content("\n").join([_mark(_title(hit.chat, marked), terms), _facts(hit.chat, now)])
    more = Content.styled(f"  +{hit.count - 1}", _MUTED) if hit.count > 1 else Content("")
    text = clean_line(hit.snippet.text)
    if width > 0:
        text = _around_match(text, terms, max(8, width - about.cell_length - more.cell_length))
    found = _mark(Content(text), terms)
    return Content("\n").join([_title(hit.chat, marked), Content.assemble(about, found, more)])


def preview(messages: list[Message], terms: Iterable[str] = (), found: str | None = None) -> Content:
    """The end of a chat, or the part around the message `found`, with matches marked."""
    terms = list(terms)
    places = [place for place, message in enumerate(messages) if message.id == found]
    first = places[0] if places else max(0, len(messages) - PREVIEW_MESSAGES)
    parts: list[Content] = []
    if first:
        parts.append(Content.styled(f"({first} earlier)", _MUTED))
    for message in messages[first : first + PREVIEW_MESSAGES]:
        mark = "" if message.status == "complete" else f"  {message.status}"
        parts.append(Content.assemble((_NAMES[message.role], "bold $text-primary"), (mark, _MUTED)))
        text = clean(message.content).strip()
        cut = text[:PREVIEW_CHARACTERS] + ("…" if len(text) > PREVIEW_CHARACTERS else "")
        parts += [_mark(Content(cut), terms), Content("")]
    return Content("\n").join(parts)


def _title(chat: ChatSummary, marked: bool) -> Content:
    title = Content.styled(clean_line(chat.title, _TITLE_LENGTH) or "(no title)", "bold")
    return Content.assemble((MARK, "$text-accent"), title) if marked else title


def _facts(chat: ChatSummary, now: datetime) -> Content:
    count = f"{chat.message_count:,} message{'' if chat.message_count == 1 else 's'}"
    facts = [describe_time(chat.updated, now), clean_line(model_stem(chat.model), 40), count]
    if chat.pinned:
        facts.append("pinned")
    return Content.styled("  " + " · ".join(fact for fact in facts if fact), _MUTED)


def _around_match(text: str, terms: list[str], room: int) -> str:
    """The part of `text` with its first match in the middle, in at most `room` cells."""
    spans = find_spans(text, terms)
    if not spans or cell_len(text) <= room:
        return text
    start, stop = spans[0]
    first, last = start, min(stop, start + room)
    grows = True
    while grows:  # a character at either end in turn, as long as one fits with the dots
        grows = False
        for before, after in ((1, 0), (0, 1)):
            left, right = max(0, first - before), min(len(text), last + after)
            if (left, right) != (first, last) and cell_len(_dotted(text, left, right)) <= room:
                first, last, grows = left, right, True
    return _dotted(text, first, last)


def _dotted(text: str, first: int, last: int) -> str:
    return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")


def _mark(content: Content, terms: list[str]) -> Content:
    for start, end in find_spans(content.plain, terms):
        content = content.stylize(_MATCH_STYLE, start, end)
    return content
