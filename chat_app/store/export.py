"""A chat as a file: Markdown and HTML to read, OpenAI's lines to train on, JSON with every branch."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from chat_app.attachments.attachment import Attachment, attachments_of
from chat_app.chat.conversation import Conversation, thought_of
from chat_app.files.durable import replace_file
from chat_app.store.records import to_json as message_json
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean, clean_line

_HEADINGS: Final = {"system": "System", "user": "You", "assistant": "Assistant"}
_MARKS: Final = {
    "partial": "(not finished)",
    "stopped": "(stopped)",
    "failed": "(failed)",
}
# No script, no picture, nothing from elsewhere: a reply may ask for any of it.
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
pre {{ overflow-x: auto; padding: .7rem; border: 1px solid #8886; border-radius: .3rem; }}
h2 {{ font-size: 1rem; margin: 2rem 0 0; }}
.user {{ border-left: .2rem solid #59a; padding-left: 1rem; }}
.facts {{ color: #888; }}
</style>
<h1>{title}</h1>
<p class="facts">{facts}</p>
{body}
</html>
"""


class ExportError(SentenceError):
    """A chat could not be exported. The message is a sentence for a person."""


def to_markdown(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """The branch shown, with YAML front matter, and without control characters: it will meet a terminal."""
    path = conversation.path()
    head = {
        "title": clean_line(conversation.title),
        "id": conversation.id,
        "model": clean_line(model),
        "created": created or (path[0].time if path else ""),
        "exported_from": "llama-chat",
    }
    # A JSON string is a YAML string too, so no title can break out of the front matter.
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()),
        "---",
    ]
    for message in path:
        lines += ["", f"## {_HEADINGS[message.role]}", ""]
        if thought := clean(thought_of(message)).strip():
            lines += [*("> " + line if line else ">" for line in thought.splitlines()), ""]
        for one in attachments_of(message.x):
            lines += [*_attached_lines(one), ""]
        lines.append(clean(message.content).rstrip("\n"))
        if message.status in _MARKS:
            lines += ["", f"*{_MARKS[message.status]}*"]
    return "\n".join(lines) + "\n"


def _attached_lines(one: Attachment) -> list[str]:
    """An attached file in Markdown: its name, the summary that stood for it, and its text."""
    summary = ["*Summary:*", "", *_fenced(one.summary), ""] if one.summary else []
    return [f"*{attached_title(one)}*", "", *summary, *_fenced(one.text)]


def _fenced(text: str) -> list[str]:
    """A text between more backticks than it holds in a row."""
    text = clean(text).rstrip("\n")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, text, fence]


def attached_title(one: Attachment) -> str:
    """An attached file in a line: its name, and what there is of it."""
    n = len(one.text.splitlines())
    part = f"{one.part}, " if one.part else ""
    return f"Attached: {clean_line(one.name)} ({part}{n:,} line{'' if n == 1 else 's'}, {one.encoding})"


def to_html(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """The branch shown as a page of its own. The texts are read as Markdown, without HTML and pictures."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    # In words, for a page that fetches a picture tells its server that it is read.
    reader.add_render_rule("image", lambda self, tokens, at, *_: html.escape(f"[{tokens[at].content}]"))
    path = conversation.path()
    parts: list[str] = []
    for message in path:
        mark = f' <span class="facts">{_MARKS[message.status]}</span>' if message.status in _MARKS else ""
        parts.append(f"<h2>{_HEADINGS[message.role]}{mark}</h2>")
        if thought := clean(thought_of(message)).strip():
            parts.append(f"<details><summary>Thought</summary>\n{reader.render(thought)}</details>")
        parts += [
            f"<details><summary>{html.escape(attached_title(one))}</summary>\n"
            f"<pre>{html.escape(clean(one.shown_text))}</pre></details>"
            for one in attachments_of(message.x)
        ]
        parts.append(f'<div class="{message.role}">\n{reader.render(clean(message.content))}</div>')
    facts = (clean_line(model), created or (path[0].time if path else ""))
    return _PAGE.format(
        title=html.escape(clean_line(conversation.title) or conversation.id),
        facts=html.escape(" · ".join(fact for fact in facts if fact)),
        body="\n".join(parts),
    )


def to_openai_jsonl(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """The branch shown as one line `{"messages": [...]}`, as fine-tuning services take it, with the system
    prompt that its last reply had."""
    system = next((message.x.get("system") for message in reversed(conversation.path()) if message.x), None)
    turns = conversation.to_messages(system if isinstance(system, str) else None)
    return _json({"messages": turns}) + "\n"


def to_json(conversation: Conversation, *, model: str = "", created: str = "") -> str:
    """Every branch with all that is known about each message; `tip` names the end of the branch shown."""
    whole = {
        "format": "llama-chat",
        "version": 1,
        "id": conversation.id,
        "title": conversation.title,
        "model": model,
        "created": created,
        "tip": conversation.tip,
        "messages": [message_json(message) for message in conversation],
    }
    return _json(whole, indent=1) + "\n"


_RENDERERS: Final[Mapping[str, Callable[..., str]]] = {
    "markdown": to_markdown,
    "openai": to_openai_jsonl,
    "json": to_json,
    "html": to_html,
}
ENDINGS: Final = {"markdown": ".md", "openai": ".jsonl", "json": ".json", "html": ".html"}
FORMATS: Final = {ending: kind for kind, ending in ENDINGS.items()}


def rendered(conversation: Conversation, kind: str, *, model: str = "", created: str = "") -> str:
    """The chat in one of the formats that `ENDINGS` lists."""
    return _RENDERERS[kind](conversation, model=model, created=created)


def export_chat(
    conversation: Conversation,
    path: Path,
    *,
    kind: str | None = None,
    model: str = "",
    created: str = "",
    overwrite: bool = False,
) -> Path:
    """Write the chat to `path` as `kind`, or in the format that the file's ending names; returns the path.

    The file appears whole or not at all. Raises ExportError: an unknown ending, a file that is there already
    (unless `overwrite`), a disk that refuses.
    """
    kind = kind or FORMATS.get(path.suffix.lower())
    if kind is None:
        *most, last = FORMATS
        raise ExportError(f"The ending {path.suffix!r} names no format; use {', '.join(most)} or {last}.")
    text = rendered(conversation, kind, model=model, created=created)
    try:
        replace_file(path, text.encode("utf-8", "replace"), overwrite=overwrite)
    except FileExistsError as error:
        raise ExportError(f"{path} exists already; nothing was written.") from error
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}.") from error
    return path


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that is readable where it can be: only half surrogate pairs, which UTF-8 lacks, force escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
