"""The token inspector: a cursor over a reply's tokens, and what else the model could have said there."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.inspection import Alternative, TokenLook
from chat_app.chat.token_walk import DOUBTFUL, TokenWalk
from chat_app.text import formatting as fmt
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.messages.tint import CURSOR, line_of, tint
from chat_app.tui.widgets.token_line import MUTED, Part, reason_of, visible

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController

BAR_WIDTH = 14
NAME_WIDTH = 13
FACT_LINES = 7  # above the alternatives, the empty line included


class InspectorScreen(Dialog[None]):
    """Left and Right move the cursor, Up and Down choose an alternative, Enter branches there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "move(1)", "Next token", id="inspector.next"),
        Binding("left", "move(-1)", "Previous token", id="inspector.previous"),
        Binding("home", "jump(0)", "First token", id="inspector.first"),
        Binding("end", "jump(-1)", "Last token", id="inspector.last"),
        Binding("tab,n", "seek(1)", "Next doubtful token", id="inspector.doubtful"),
        Binding("shift+tab,N", "seek(-1)", "Previous doubtful token", id="inspector.doubtful_before"),
        Binding("down", "choose(1)", "Next alternative", id="inspector.down"),
        Binding("up", "choose(-1)", "Previous alternative", id="inspector.up"),
        Binding("enter", "branch", "Branch here", id="inspector.branch"),
        Binding("alt+n", "draw", "Draw eight continuations", id="inspector.draw"),
    ]

    def __init__(
        self,
        session: ChatController,
        message_id: str,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
        draw: Callable[[str, int], object],
        at: int = 0,
    ) -> None:
        """spawn: runs work that goes on when this screen has gone. draw: shows how the reply could go on from
        one of its tokens. at: where the cursor begins."""
        super().__init__()
        self._spawn = spawn
        self._draw = draw
        self.walk = TokenWalk(session, message_id, at=at)

    def compose(self) -> ComposeResult:
        """The reply's tokens at the left, what is known of one of them at the right."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(Content("Tokens of the reply"), classes="dialog-title")
            with Horizontal(id="inspector"):
                with VerticalScroll(id="inspector-tokens", can_focus=False):
                    yield Static("", id="inspector-text")
                yield Static("", id="inspector-look")
            yield KeyWords(
                "{inspector.previous} {inspector.next} token · {inspector.doubtful} next doubtful · "
                "{inspector.up} {inspector.down} alternative · {inspector.branch} branches there · "
                "{inspector.draw} eight continuations · {dialog.close} closes"
            )

    def begin(self) -> None:
        """Start to look, or say why one cannot: a busy model, or no recorded tokens."""
        if problem := self.walk.problem:
            self._say(problem)
        else:
            self.run_worker(self._work(), group="inspector", exclusive=True)

    async def _work(self) -> None:
        try:
            await self.walk.run(self._show)
        except Exception as error:  # noqa: BLE001 - the engine's trouble is shown here, not the app's end
            self._say(describe_error(error))

    def action_move(self, step: int) -> None:
        """Move the cursor by `step` tokens, not past either end."""
        self.walk.move(step)
        self._show_text()

    def action_jump(self, place: int) -> None:
        """Set the cursor on a token by its index; -1 is the last."""
        self.walk.jump(place)
        self._show_text()

    def action_seek(self, step: int) -> None:
        """Go to the next or the previous doubtful token."""
        if not self.walk.seek(step):
            self.notify(f"There is no other token below {DOUBTFUL:.0%} in this direction.", markup=False)
        self._show_text()

    def action_choose(self, step: int) -> None:
        """Mark another alternative, `step` rows on; past the last follows the first."""
        self.walk.choose(step)
        self._show_look()

    def action_branch(self) -> None:
        """Branch the chat at the cursor with the marked alternative, and close; nothing while it is still
        computed.
        """
        try:
            work = self.walk.branch()
        except ValueError as refusal:
            self.notify(str(refusal), markup=False)
            return
        if work is not None:
            self.dismiss(None)
            self._spawn(work)

    def action_draw(self) -> None:
        """Close, and show how the reply could go on from the cursor."""
        if self.walk.here is not None:
            self.dismiss(None)
            self._draw(self.walk.message_id, self.walk.at)

    def _show(self) -> None:
        self._show_text()
        self._show_look()

    def _show_text(self) -> None:
        walk, parts = self.walk, list[Part]()
        for index, token in enumerate(walk.reply.tokens if walk.reply is not None else ()):
            shown = clean(token.text).replace("\n", "⏎\n")
            style = tint(walk.logprobs[index] if index < len(walk.logprobs) else None)
            parts.append((shown, CURSOR if index == walk.at else style))
        widget = self.query_one("#inspector-text", Static)
        widget.update(Content.assemble(*parts))
        line = line_of(Content.assemble(*parts[: walk.at]), widget.size.width)
        scroll = self.query_one("#inspector-tokens", VerticalScroll)
        scroll.scroll_to(y=line - scroll.size.height // 2, animate=False)

    def _show_look(self) -> None:
        if self.walk.look is not None:
            widget = self.query_one("#inspector-look", Static)
            widget.update(describe(self.walk.look, self.walk.choice, widget.size.height))

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
    name = visible(one.text)[:NAME_WIDTH]
    style = "bold $text-primary" if chosen else f"strike {MUTED}" if one.barred else ""
    if one.cut:  # where it is most often too small for a bar
        share: list[Part] = [(reason_of(one)[:BAR_WIDTH], "$text-warning")]
    else:
        filled, rest = fmt.bar(one.probability, BAR_WIDTH)
        share = [(filled, "$primary"), (rest, MUTED)]
    return [
        ("▶ " if marked else "  ", "bold $text-accent"),
        (name, style),
        " " * (NAME_WIDTH - len(name)),
        (f" {fmt.percent(one.probability):>6} ", MUTED),
        *share,
        "\n",
    ]
