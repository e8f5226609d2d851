"""The token inspector: a cursor over a reply's tokens, and what else the model could have said there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.branches import ReplyTokens
from chat_app.chat.conversation import token_ids
from chat_app.chat.inspection import Alternative, TokenLook
from chat_app.text import formatting as fmt
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.tint import tint

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController

Part = str | tuple[str, str]
MUTED = "$foreground 60%"
BAR_WIDTH = 12
FACT_LINES = 7  # above the alternatives, the empty line included


def visible(text: str) -> str:
    """A token on one line: its spaces and line breaks shown."""
    shown = clean(text).replace("\n", "⏎").replace("\t", "→")
    return shown.replace(" ", "·") if shown.strip() == "" else shown


class InspectorScreen(Dialog[None]):
    """Left and Right move the cursor, Up and Down choose an alternative, Enter branches there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "move(1)", "Next token", id="inspector.next"),
        Binding("left", "move(-1)", "Previous token", id="inspector.previous"),
        Binding("home", "jump(0)", "First token", id="inspector.first"),
        Binding("end", "jump(-1)", "Last token", id="inspector.last"),
        Binding("down", "choose(1)", "Next alternative", id="inspector.down"),
        Binding("up", "choose(-1)", "Previous alternative", id="inspector.up"),
        Binding("enter", "branch", "Branch here", id="inspector.branch"),
    ]

    def __init__(
        self,
        session: ChatController,
        message_id: str,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
        at: int = 0,
    ) -> None:
        """spawn: runs work that goes on when this screen has gone. at: where the cursor begins."""
        super().__init__()
        self._session = session
        self._spawn = spawn
        self._message = session.conversation.get(message_id)
        self._ids = token_ids(self._message)
        self._logprobs: Sequence[float] = session.records.of(message_id).logprobs
        self._reply: ReplyTokens | None = None
        self._at = at
        self._choice = 0
        self._look: TokenLook | None = None
        self._wanted = asyncio.Event()

    def compose(self) -> ComposeResult:
        """The reply's tokens at the left, what is known of one of them at the right."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content("Tokens of the reply"), classes="dialog-title")
            with Horizontal(id="inspector"):
                with VerticalScroll(id="inspector-tokens", can_focus=False):
                    yield Static("", id="inspector-text")
                yield Static("", id="inspector-look")
            yield Static(
                Content("← → token · ↑ ↓ alternative · Enter branches there · Esc closes"),
                classes="dialog-hint",
            )

    def begin(self) -> None:
        """Start to look, or say why one cannot: a busy model, or no recorded tokens."""
        if self._session.generating or self._session.model.info is None:
            self._say("The model is busy or not loaded; tokens can be inspected afterwards.")
        elif not self._ids and not self._session.records.of(self._message.id).looks:
            self._say("This message has no recorded tokens. Replies written here have.")
        else:
            self.run_worker(self._work(), group="inspector", exclusive=True)

    async def _work(self) -> None:
        """Prepare once, then look at whichever token the cursor came to rest on."""
        try:
            self._reply = await self._session.branches.reply_tokens(self._message.id)
            while True:
                self._show_text()
                at = self._at
                self._look = await self._session.branches.look_at(self._reply, at)
                self._choice = 0
                self._show_look()
                if at == self._at:
                    await self._wanted.wait()
                self._wanted.clear()
        except Exception as error:  # noqa: BLE001 - the engine's trouble is shown here, not the app's end
            self._say(describe_error(error))

    def action_move(self, step: int) -> None:
        """Move the cursor by `step` tokens, not past either end."""
        last = len(self._reply.tokens) - 1 if self._reply is not None else 0
        self.action_jump(max(0, min(last, self._at + step)))

    def action_jump(self, place: int) -> None:
        """Set the cursor on a token by its index; -1 is the last."""
        if self._reply is not None:
            self._at = place % len(self._reply.tokens)
            self._show_text()
            self._wanted.set()

    def action_choose(self, step: int) -> None:
        """Mark another alternative, `step` rows on; past the last follows the first."""
        if self._look is not None:
            self._choice = (self._choice + step) % len(self._look.top)
            self._show_look()

    def action_branch(self) -> None:
        """Branch the chat at the cursor with the marked alternative, and close; nothing while it is still
        computed.
        """
        if self._reply is None or self._look is None or self._look.index != self._at:
            return
        chosen = self._look.top[self._choice]
        if chosen.id == self._look.chosen.id:
            self.notify("That is the token that stands there; choose another with ↓.", markup=False)
            return
        if chosen.barred:
            self.notify("What the reply was held to does not allow this token.", markup=False)
            return
        branches = self._session.branches
        work = branches.take_alternative(self._reply, self._at, chosen.id)
        self.dismiss(None)
        self._spawn(work)

    def _show_text(self) -> None:
        parts: list[Part] = []
        for index, token in enumerate(self._reply.tokens if self._reply is not None else ()):
            shown = clean(token.text).replace("\n", "⏎\n")
            style = tint(self._logprobs[index] if index < len(self._logprobs) else None)
            parts.append((shown, "reverse bold" if index == self._at else style))
        widget = self.query_one("#inspector-text", Static)
        widget.update(Content.assemble(*parts))
        before = Content.assemble(*parts[: self._at])
        line = max(0, len(before.wrap(max(1, widget.size.width))) - 1)
        scroll = self.query_one("#inspector-tokens", VerticalScroll)
        scroll.scroll_to(y=line - scroll.size.height // 2, animate=False)

    def _show_look(self) -> None:
        if self._look is not None:
            widget = self.query_one("#inspector-look", Static)
            widget.update(describe(self._look, self._choice, widget.size.height))

    def on_resize(self) -> None:
        """Draw the alternatives anew, as wide as there is room."""
        self.call_after_refresh(self._show_look)

    def _say(self, text: str) -> None:
        self.query_one("#inspector-text", Static).update(Content(clean(text)))


def describe(found: TokenLook, choice: int, height: int = 0) -> Content:
    """The right half: the token's facts and its rivals; of these as many around the choice as `height` holds
    (0: all)."""
    chosen = found.chosen
    raw = " ".join(f"{byte:02x}" for byte in chosen.raw) or "control token"
    parts: list[Part] = [
        (f"{visible(chosen.text)}\n", "bold $text-primary"),
        ("token       ", MUTED),
        f"{found.index + 1}{f', id {chosen.id}' if chosen.id >= 0 else ''}\n",
        ("bytes       ", MUTED),
        f"{raw}\n",
        ("probability ", MUTED),
        f"{fmt.percent(chosen.probability)}\n",
        ("rank        ", MUTED),
        f"{found.rank or f'below {len(found.top)}'}\n",
        ("entropy     ", MUTED),
        f"{'not told by the server' if math.isnan(found.entropy) else f'{found.entropy:.2f} bit'}\n",
    ]
    if found.allowed_n is not None:
        held = f"{found.allowed_n:,} tokens, {fmt.percent(found.allowed)} of the probability\n"
        parts += [("allowed     ", MUTED), held]
    parts.append("\n")
    facts = FACT_LINES + (found.allowed_n is not None)
    room = len(found.top) if height <= 0 else max(1, height - facts)
    if room < len(found.top):
        room = max(1, room - 1)  # for the line that says so
    first = max(0, min(choice - room // 2, len(found.top) - room))
    for place, one in enumerate(found.top[first : first + room], first):
        parts += _alternative(one, chosen=one.id == chosen.id, marked=place == choice)
    if room < len(found.top):
        parts.append((f"  {choice + 1} of {len(found.top)}, ↑ ↓ for the others", MUTED))
    return Content.assemble(*parts)


def _alternative(one: Alternative, *, chosen: bool, marked: bool) -> list[Part]:
    filled, rest = fmt.bar(one.probability, BAR_WIDTH)
    name = visible(one.text)[:14]
    style = "bold $text-primary" if chosen else f"strike {MUTED}" if one.barred else ""
    return [
        ("▶ " if marked else "  ", "bold $text-accent"),
        (name, style),
        " " * (14 - len(name)),
        (f" {fmt.percent(one.probability):>6} ", MUTED),
        (filled, "$primary"),
        (rest, "on $panel"),
        "\n",
    ]
