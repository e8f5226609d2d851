"""One chat of another program's JSON as a chat of ours: OpenAI, ShareGPT, ChatGPT, and our own export.

    {"messages": [{"role": "user", "content": "..."}]}              OpenAI's fine-tuning and request files
    {"conversations": [{"from": "human", "value": "..."}]}          ShareGPT
    {"mapping": {ID: {"message", "parent", "children"}}, ...}       ChatGPT's conversations.json, a tree
    {"format": "llama-chat", "messages": [...], "tip": ID}          `llama-chat chats export --format json`

Messages without text (pictures, calls of tools) have no place here: they are left out and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from chat_app.chat.conversation import Conversation, Message, Role
from chat_app.store.importing.chat import ImportedChat
from chat_app.store.records import build_conversation, from_json
from chat_app.store.transcript import ChatDetails
from chat_app.text.titles import title_of

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
# Where programs put the reasoning before an answer.
_THOUGHT_KEYS: Final = ("reasoning_content", "reasoning", "thinking")


def read_chat_json(value: Any, seen_at: str) -> ImportedChat | None:
    """The chat that `value` is, in any of these formats; None where it is none, or holds no message.

    `seen_at` (ISO 8601) stands for times that the format does not know, such as that of its file.
    """
    if not isinstance(value, dict):
        return None
    if value.get("format") == "llama-chat":
        return _own(value, seen_at)
    if isinstance(value.get("mapping"), dict):
        return _chatgpt(value, seen_at)
    if isinstance(value.get("messages"), list):
        return _list_of_turns(value, value["messages"], "role", "content", seen_at)
    if isinstance(value.get("conversations"), list):
        return _list_of_turns(value, value["conversations"], "from", "value", seen_at)
    return None


def _own(value: Mapping[str, Any], seen_at: str) -> ImportedChat | None:
    entries = enumerate(_list(value.get("messages")), 1)
    found = [from_json(one, f"line-{number}") for number, one in entries]
    records = [record for record in found if record is not None]
    identity = value.get("id")
    chat_id = identity if isinstance(identity, str) and identity else _chat_id(value, seen_at)
    conversation = build_conversation(chat_id, _text(value.get("title")), records)
    if value.get("tip") in conversation:
        conversation.select(value["tip"])
    return _finished(
        conversation, _text(value.get("model")), _text(value.get("created")), len(found) - len(records)
    )


def _list_of_turns(
    value: Mapping[str, Any], turns: list[Any], role_key: str, text_key: str, seen_at: str
) -> ImportedChat | None:
    conversation = Conversation(_chat_id(value, seen_at), _text(value.get("title")))
    left_out = 0
    system = value.get("system")
    if isinstance(system, str) and system:
        turns = [{role_key: "system", text_key: system}, *turns]
    for number, turn in enumerate(turns, 1):
        known = turn if isinstance(turn, dict) else {}
        role = _ROLES.get(str(known.get(role_key)).lower())
        text = _plain_text(known.get(text_key))
        if role is None or not text:
            left_out += 1
            continue
        thought = next((one for key in _THOUGHT_KEYS if (one := _text(known.get(key)))), "")
        x = {"thought": thought} if thought and role == "assistant" else {}
        _add(conversation, Message(f"line-{number}", conversation.tip, role, text, seen_at, x=x))
    return _finished(conversation, _text(value.get("model")), seen_at, left_out)


def _chatgpt(value: Mapping[str, Any], seen_at: str) -> ImportedChat | None:
    """The tree of `mapping`. Nodes that are no message of a person or the model are skipped: what hangs below
    them hangs below the message above."""
    nodes: dict[str, dict[str, Any]] = {
        key: node for key, node in value["mapping"].items() if isinstance(node, dict)
    }
    created = _iso(value.get("create_time")) or seen_at
    identity = value.get("conversation_id") or value.get("id")
    conversation = Conversation(_chat_id(identity or value, created), _text(value.get("title")))
    above: dict[str, str | None] = {}  # of each node: the last message on the way to it, itself included
    left_out, model, thought = 0, "", ""
    for key, parent in _depth_first(nodes):
        known = nodes[key].get("message")
        message = known if isinstance(known, dict) else {}
        above[key] = above.get(parent) if parent else None
        author, metadata = message.get("author"), message.get("metadata")
        role = _ROLES.get(str(author.get("role")) if isinstance(author, dict) else "")
        details = metadata if isinstance(metadata, dict) else {}
        text, thinks = _chatgpt_text(message.get("content"))
        thought += thinks
        if role is None or not text:
            left_out += bool(message) and not thinks and role != "system"
            continue
        if role == "system" and details.get("is_visually_hidden_from_conversation"):
            continue
        x: dict[str, Any] = {}
        if role == "assistant":
            model = _text(details.get("model_slug")) or model
            x = {"model": model} if model else {}
            x |= {"thought": thought} if thought else {}
        thought = ""
        _add(
            conversation,
            Message(key, above[key], role, text, _iso(message.get("create_time")) or created, x=x),
        )
        above[key] = key
    tip = above.get(str(value.get("current_node")))
    if tip is not None:
        conversation.select(tip)
    return _finished(conversation, model, created, left_out)


def _depth_first(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """Each node once, after its parent, with that."""
    roots = [key for key, node in nodes.items() if node.get("parent") not in nodes]
    waiting: list[tuple[str, str | None]] = [(key, None) for key in reversed(roots)]
    seen: set[str] = set()
    while waiting:
        key, parent = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        yield key, parent
        children = _list(nodes[key].get("children"))
        known = [one for one in children if isinstance(one, str) and one in nodes]
        waiting += [(child, key) for child in reversed(known)]


def _chatgpt_text(content: Any) -> tuple[str, str]:
    """(what was said, what was thought) of a message's content."""
    if not isinstance(content, dict):
        return "", ""
    if content.get("content_type") == "thoughts":
        thoughts = [one.get("content") for one in _list(content.get("thoughts")) if isinstance(one, dict)]
        return "", "\n\n".join(_text(one) for one in thoughts)
    if content.get("content_type") in ("text", "multimodal_text"):
        return _plain_text(content.get("parts")), ""
    return "", ""


def _plain_text(content: Any) -> str:
    """A text, or the texts of a list of parts (OpenAI's `{"type": "text", "text": ...}`, or plain ones)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "\n".join(part for part in parts if isinstance(part, str) and part)


def _add(conversation: Conversation, message: Message) -> None:
    conversation.insert(message)
    conversation.select(message.id)


def _finished(conversation: Conversation, model: str, created: str, left_out: int) -> ImportedChat | None:
    messages = list(conversation)
    if not messages:
        return None
    if not conversation.title:
        opening = next((one.content for one in messages if one.role == "user"), messages[0].content)
        conversation.title = title_of(opening)
    details = ChatDetails(model=model, created=created or messages[0].time)
    return ImportedChat(conversation, details, max(one.time for one in messages), left_out)


def _chat_id(source: Any, time: str) -> str:
    """The same for the same chat at each import, so that none is there twice."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:8]
    try:
        at = datetime.fromisoformat(time).astimezone(UTC)
    except (ValueError, OverflowError):
        at = datetime.fromtimestamp(0, UTC)
    return f"{at:%Y%m%d-%H%M%S}-{digest}"


def _iso(seconds: Any) -> str:
    """Seconds since 1970 as ISO 8601 in UTC; "" where that is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
