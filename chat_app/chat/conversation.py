"""A conversation is a tree of messages; the path from a root to the tip is what is shown and sent.

Nothing is ever overwritten by talking: editing a question or asking for another reply adds a sibling, so
every branch stays reachable. Only `update` replaces a message, for a reply that is still growing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from chat_app.attachments.attachment import attachments_of, prompt_text
from chat_app.engines.base import Turn

Role = Literal["system", "user", "assistant"]
Status = Literal["complete", "partial", "stopped", "failed"]

ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant")
STATUSES: Final[tuple[Status, ...]] = ("complete", "partial", "stopped", "failed")


class _Tip:
    """The default of `parent`: None is taken, it means a new root."""


_TIP: Final = _Tip()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `time` is ISO 8601 in UTC; `x` holds what only this app knows (see `reply_details`)."""

    id: str
    parent: str | None
    role: Role
    content: str
    time: str
    status: Status = "complete"
    x: Mapping[str, Any] = field(default_factory=dict, hash=False)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_clock = threading.Lock()
_last_microsecond = 0


def utc_now() -> str:
    """The time as ISO 8601 in UTC with microseconds: `2026-11-23T12:05:01.250000Z`. It sorts as text.

    Each call is later than the one before, also where two fall into one tick or the clock is set back.
    """
    global _last_microsecond
    with _clock:
        _last_microsecond = now = max(time.time_ns() // 1000, _last_microsecond + 1)
    moment = _EPOCH + timedelta(microseconds=now)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_message_id() -> str:
    """Milliseconds since 1970 and four random bytes in hexadecimal: unique everywhere."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


class Conversation:
    """The tree of one chat. It knows no disk and no screen; unknown ids raise KeyError."""

    def __init__(self, id: str = "", title: str = "") -> None:
        self.id = id
        self.title = title
        self.tip: str | None = None
        self._messages: dict[str, Message] = {}
        self._children: dict[str | None, list[str]] = {None: []}
        self._chosen: dict[str | None, str] = {}

    def __len__(self) -> int:
        """How many messages all branches hold together."""
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        """Every message of every branch, in the order they were added."""
        return iter(self._messages.values())

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

    def get(self, message_id: str) -> Message:
        """A message by its id."""
        return self._messages[message_id]

    def children(self, message_id: str | None) -> list[Message]:
        """The replies to one message (None: the roots), oldest first."""
        return [self._messages[child] for child in self._children[message_id]]

    def siblings(self, message_id: str) -> list[Message]:
        """The alternatives at one place of the tree, the message itself among them, oldest first."""
        return self.children(self._messages[message_id].parent)

    def add(
        self,
        role: Role,
        content: str,
        *,
        parent: str | _Tip | None = _TIP,
        status: Status = "complete",
        x: Mapping[str, Any] | None = None,
    ) -> Message:
        """Add a message below `parent` (by default the tip, None: a new root); it becomes the tip."""
        above = self.tip if isinstance(parent, _Tip) else parent
        message = Message(new_message_id(), above, role, content, utc_now(), status, dict(x or {}))
        self.insert(message)
        self.tip = message.id
        return message

    def edit(self, message_id: str, content: str) -> Message:
        """Add a sibling with other words; it becomes the tip, and the original keeps its replies."""
        original = self._messages[message_id]
        return self.add(original.role, content, parent=original.parent)

    def regenerate(self, message_id: str) -> Message:
        """Add an empty sibling to a reply (or the first reply to a question); it becomes the tip."""
        return self.add("assistant", "", parent=self.question_of(message_id), status="partial")

    def question_of(self, message_id: str) -> str | None:
        """What a reply answers, None for one that begins a chat; any other message is a question itself."""
        message = self._messages[message_id]
        return message.parent if message.role == "assistant" else message_id

    def insert(self, message: Message) -> None:
        """Put a finished Message into the tree, the tip untouched. Raises ValueError for a double id or an
        unknown role, KeyError for an unknown parent; so the tree can hold no loop."""
        if message.id in self._messages:
            raise ValueError(f"the message {message.id} is there already")
        if message.role not in ROLES or message.status not in STATUSES:
            raise ValueError(f"a message cannot have role {message.role!r} and status {message.status!r}")
        self._children[message.parent].append(message.id)
        self._children[message.id] = []
        self._messages[message.id] = message
        self._chosen[message.parent] = message.id

    def update(self, message: Message) -> None:
        """Replace the message of the same id: a reply that grows, ends, or goes on. Its place is fixed."""
        if message.parent != self._messages[message.id].parent:
            raise ValueError("a message cannot move to another place of the tree")
        self._messages[message.id] = message

    def take_over(self, other: Conversation) -> None:
        """Take title, tip and every message from `other`, in place, for those who hold this object.

        Messages that both have get the state of `other`; those that only this one has are kept.
        """
        self.id, self.title = other.id, other.title
        for message in other:
            if message.id in self:
                self.update(replace(message, parent=self.get(message.id).parent))
            else:
                self.insert(message)
        self.tip = other.tip

    def select(self, message_id: str | None) -> None:
        """Make this message the tip: what is added next continues from it. None starts at an empty chat."""
        if message_id is not None:
            for message in self.path(message_id):
                self._chosen[message.parent] = message.id
        self.tip = message_id

    def select_branch(self, message_id: str) -> None:
        """Show the branch that runs through this message, down to the reply last seen there."""
        self.select(self.leaf(message_id))

    def leaf(self, message_id: str) -> str:
        """Follow the children last chosen (else the newest) from this message to the end of its branch."""
        while self._children[message_id]:
            message_id = self._chosen[message_id]
        return message_id

    def path(self, message_id: str | None = None) -> list[Message]:
        """The messages from the root to `message_id` (the tip where none is named), both included."""
        at = self.tip if message_id is None else message_id
        found: list[Message] = []
        while at is not None:
            found.append(self._messages[at])
            at = found[-1].parent
        found.reverse()
        return found

    def turns(
        self, system: str | None, upto: str | None = None, first: str = "", *, continue_last: bool = False
    ) -> list[Turn]:
        """The path (to `upto`, else to the tip) as an engine takes it.

        `system` replaces a system message of the path, the empty one removes it, None keeps it. `first` names
        the first message that is sent; what stands above it is left out, the system prompt aside. The text of
        partial and stopped replies is sent; replies that failed or hold no text are left out. With
        `continue_last` the last one goes on, and may be a mere thought.
        """
        path = self.path(upto)
        start = next((at for at, message in enumerate(path) if message.id == first), 0)
        turns: list[Turn] = []
        if system:
            turns.append(Turn("system", system))
        for at, message in enumerate(path):
            if message.role == "system" and system is not None:
                continue
            if at < start and message.role != "system":
                continue
            goes_on = continue_last and message is path[-1]
            if message.role == "assistant" and not (has_answer(message) or goes_on):
                continue
            add_turn(turns, turn_of(message))
        return turns

    def turns_before(self, reply: Message) -> list[Turn]:
        """The turns that a reply answered, as its record has them: with the system prompt of then, and what
        was left out then is left out again."""
        system, first = reply.x.get("system"), reply.x.get("sees_from")
        if reply.parent is None:
            return []
        return self.turns(
            system if isinstance(system, str) else None,
            reply.parent,
            first if isinstance(first, str) else "",
        )

    @property
    def cut(self) -> str | None:
        """The first message that the last reply's prompt held, where those above it were left out."""
        reply = next((one for one in reversed(self.path()) if one.role == "assistant"), None)
        first = reply.x.get("sees_from") if reply is not None else None
        return first if isinstance(first, str) and first else None

    def to_messages(self, system: str | None, upto: str | None = None) -> list[dict[str, str]]:
        """`turns` in OpenAI's form."""
        return [turn.to_message(with_thought=True) for turn in self.turns(system, upto)]


def token_ids(message: Message) -> tuple[int, ...]:
    """The tokens that a reply was written with; none where they were not kept, or are damaged."""
    ids = message.x.get("ids")
    if isinstance(ids, list | tuple) and all(type(one) is int for one in ids):
        return tuple(ids)
    return ()


def has_answer(message: Message) -> bool:
    """Whether a reply says something that is sent again."""
    return message.status != "failed" and bool(message.content)


def thought_of(message: Message) -> str:
    """What a reply's model thought before it answered; empty where it did not, or that was not kept."""
    thought = message.x.get("thought")
    return thought if isinstance(thought, str) else ""


def turn_of(message: Message) -> Turn:
    """A message as an engine takes it: what is attached to it is part of its text."""
    ids, thought_n = token_ids(message), message.x.get("thought_n")
    known = thought_n if type(thought_n) is int and 0 <= thought_n <= len(ids) else None
    return Turn(
        message.role,
        prompt_text(message.content, attachments_of(message.x)),
        ids if known is not None or not thought_of(message) else (),
        message.id,
        thought_of(message),
        known or 0,
    )


def add_turn(turns: list[Turn], turn: Turn) -> None:
    """Put a turn behind others; joined to the last one where both are the user's, because many chat templates
    insist that roles alternate."""
    if turns and turn.role == "user" == turns[-1].role:
        turns[-1] = replace(turns[-1], content=f"{turns[-1].content}\n\n{turn.content}")
    else:
        turns.append(turn)


def with_user_turn(turns: Sequence[Turn], text: str) -> tuple[Turn, ...]:
    """`turns` and a question (see `add_turn`)."""
    found = list(turns)
    add_turn(found, Turn("user", text))
    return tuple(found)


def sees_from(turns: Sequence[Turn]) -> str:
    """The id of the first message in these turns, the system prompt aside; "" where there is none."""
    return next((turn.id for turn in turns if turn.role != "system"), "")


def as_role(text: object) -> Role | None:
    """`text` as a Role where it is one, else None."""
    return next((role for role in ROLES if role == text), None)


def as_status(text: object) -> Status | None:
    """`text` as a Status where it is one, else None."""
    return next((status for status in STATUSES if status == text), None)


def segments(path: Iterable[Message]) -> list[tuple[str, int]]:
    """Who holds how many positions of the context, from what the replies recorded: (role, tokens)."""
    found: list[tuple[str, int]] = []
    end = 0
    for message in path:
        start, stop = _span(message)
        if stop and end <= start:
            found += [("user", start - end), ("assistant", stop - start)]
            end = stop
    return found


def taken_n(path: Sequence[Message]) -> int:
    """How many positions of the context a chat takes, as the last reply that tells recorded; 0 where none
    does."""
    return next((stop for _, stop in map(_span, reversed(path)) if stop), 0)


def _span(message: Message) -> tuple[int, int]:
    """The positions of the context that a reply took, (first, behind the last); (0, 0) where that is not
    known."""
    span = message.x.get("context")
    if message.role != "assistant" or not isinstance(span, (list, tuple)) or len(span) != 2:
        return 0, 0
    start, stop = span
    known = isinstance(start, int) and isinstance(stop, int) and 0 <= start <= stop
    return (start, stop) if known else (0, 0)
