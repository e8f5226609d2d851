"""One message on the screen: who, the text, and a line about it. A reply is one Markdown widget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widgets import Static

from chat_app.chat.conversation import Message
from chat_app.chat.finding import Hit, Part
from chat_app.chat.reply import ENDINGS
from chat_app.chat.token_scores import ScoredText
from chat_app.text import formatting
from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.widgets.attachments import AttachedFiles
from chat_app.tui.widgets.messages.fold import Fold
from chat_app.tui.widgets.messages.loop_mark import LoopMark, before_loop
from chat_app.tui.widgets.messages.thought import ThoughtView
from chat_app.tui.widgets.messages.tint import TintedText

if TYPE_CHECKING:
    from chat_app.tui.markdown.layout import Place
    from chat_app.tui.markdown.widget import FlowText

CUT = "── the model no longer sees what is above ──"
_STATUS = {
    "stopped": ("stopped", "$text-warning"),
    "failed": ("failed", "$text-error"),
    "partial": ("cut short", "$text-warning"),
}


class Spot(NamedTuple):
    """A place in a message that another width does not move: one of its parts, the line in it, and, where the
    part is the text itself, which words stand there."""

    part: int
    line: int
    place: Place | None = None


class MessageView(Vertical, can_focus=True):
    """Focused, it is the selected message: its keys act on it.

    `place` is (which, of how many) among its siblings; `growing` while the engine writes it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        # With a modifier: what is typed goes to the prompt, wherever the focus is.
        Binding("enter", "menu", "Menu", id="message.menu", tooltip="What can be done with it"),
        Binding("alt+y", "act('copy')", "Copy", id="message.copy"),
        Binding("alt+e", "act('edit')", "Edit", id="message.edit", tooltip="Edit: a new branch"),
        Binding("alt+r", "act('regenerate')", "Regen", id="message.regenerate", tooltip="Another reply"),
        Binding("alt+c", "act('continue')", "Continue", id="message.continue", tooltip="Go on with it"),
        Binding("alt+b", "act('branch')", "Branch", id="message.branch", tooltip="Branch here"),
        Binding("alt+i", "act('inspect')", "Inspect", id="message.inspect", tooltip="Inspect its tokens"),
        Binding("alt+o", "act('think_on')", "Think on", id="message.think_on", tooltip="Reopen its thought"),
        Binding("left", "act('previous')", "Previous branch", id="message.previous"),
        Binding("right", "act('next')", "Next branch", id="message.next"),
    ]

    class Act(TextualMessage):
        """A key for a message was pressed."""

        def __init__(self, action: str, message_id: str) -> None:
            self.action = action
            self.message_id = message_id
            super().__init__()

    class MenuWanted(TextualMessage):
        """Enter was pressed on the message."""

        def __init__(self, message_id: str) -> None:
            self.message_id = message_id
            super().__init__()

    class LinkShown(TextualMessage):
        """A link was clicked; `address` is inert text."""

        def __init__(self, address: str) -> None:
            self.address = address
            super().__init__()

    def __init__(
        self, message: Message, *, place: tuple[int, int] = (1, 1), growing: bool = False, saved: bool = True
    ) -> None:
        super().__init__(classes=f"message -{message.role}")
        self.message = message
        self.place = place
        self.growing = growing
        self.saved = saved
        self.cut = False
        self.timed = False
        # Kept, not looked up: a message that comes as the app ends is mounted without its parts.
        self._head_line = Static(self._head(), classes="message-head")
        self._foot_line = Static(self._foot(), classes="message-foot")
        self._text: FlowText | None = None
        self.thought: ThoughtView | None = None
        self._sought: tuple[str, Hit | None] = "", None
        self.tinted = TintedText()
        self._loop_mark = LoopMark(message)
        self._files = AttachedFiles(message)

    def compose(self) -> ComposeResult:
        """Who, the text (a reply as Markdown), and a line of figures."""
        # Imported at the first message: the first paint must not wait for a Markdown parser.
        from chat_app.text.plain import PlainDocument
        from chat_app.tui.markdown.widget import FlowText

        yield self._head_line
        if self.message.role == "assistant":
            self.thought = ThoughtView(self.message, growing=self.growing)
            yield self.thought
            self._text = FlowText(clean(before_loop(self.message)), self._on_link)
            yield self._text
            yield self.tinted
            yield self._loop_mark
        else:
            yield self._files
            self._text = FlowText(clean(self.message.content), read=PlainDocument)
            yield self._text
        yield self._foot_line

    @property
    def fold(self) -> Fold:
        """What can be unfolded in it, if that is displayed: a reply's thought, a prompt's files."""
        return self._files if self.thought is None else self.thought

    def on_mount(self) -> None:
        """Mark the message if it still grows, and show the line about it."""
        self.set_class(self.growing, "-growing")
        self._show_foot()
        self.seek(*self._sought)

    # Places in it.

    def spot_at(self, y: int) -> Spot:
        """What stands in line `y` of it, from 0."""
        parts = [(number, one) for number, one in enumerate(self.children) if one.display]
        number, part = next(
            (one for one in parts if one[1].virtual_region.bottom > y), parts[-1] if parts else (0, self)
        )
        line = y - part.virtual_region.y
        return Spot(number, line, self._text.place_at(line) if part is self._text else None)

    def line_of(self, spot: Spot) -> int:
        """The line of it in which this stands now."""
        if spot.part >= len(self.children):
            return 0
        part = self.children[spot.part]
        line = self._text.line_of(spot.place) if self._text is not None and spot.place else spot.line
        return part.virtual_region.y + min(line, max(0, part.size.height - 1))

    def seek(self, text: str, hit: Hit | None) -> None:
        """Mark the places of `text` in all parts; `hit` is the one the user is at."""
        self._sought = text, hit
        own = hit if hit is not None and hit.message_id == self.message.id else None

        def current(part: Part) -> int | None:
            return own.number if own is not None and own.part == part else None

        if self._text is not None:
            self._text.seek(text, current("text"))
        self.fold.seek(text, current("files" if self.thought is None else "thought"))

    def line_of_hit(self, hit: Hit) -> int:
        """The line of it in which a place stands."""
        part = self._text if hit.part == "text" else self.fold
        return part.virtual_region.y + part.line_of_match(hit.number) if part is not None else 0

    def _on_link(self, address: str) -> None:
        self.post_message(self.LinkShown(address))

    def takes(self, action: str) -> bool:
        """Whether an action of this kind of node means anything for this message."""
        if action in ("previous", "next"):
            return self.place[1] > 1
        if action == "think_on":
            return self.thought is not None and self.thought.display
        return self.message.role == "assistant" or action not in ("continue", "inspect")

    def action_menu(self) -> None:
        """Ask the screen for the menu of this message."""
        self.post_message(self.MenuWanted(self.message.id))

    def action_act(self, action: str) -> None:
        """Ask the screen to do `action` with this message."""
        self.post_message(self.Act(action, self.message.id))

    # A reply that grows.

    def grow(self, message: Message) -> None:
        """The engine goes on with this reply: the line about its end goes."""
        self.message, self.growing = message, True
        self.set_tint(())
        self.add_class("-growing")
        self._show_head()
        self._show_foot()

    def add_text(self, text: str) -> None:
        """Append to the reply; fast enough to be called for every batch of tokens."""
        if self.thought is not None:
            self.thought.end()
        if self._text is not None:
            self._text.write(clean(text))

    def add_thought(self, text: str, tokens: int, seconds: float) -> None:
        """Append to the thought, which has so many tokens now and took so long."""
        if self.thought is not None:
            self.thought.add(text, tokens, seconds)

    def settle(self, message: Message, *, saved: bool = True) -> None:
        """The message has its last state."""
        grew = self.growing
        self.message, self.growing, self.saved = message, False, saved
        self._loop_mark.show_message(message)
        text = clean(before_loop(message))
        if self._text is not None and self._text.source != text:
            self._text.set_text(text)
        if self.thought is not None:
            self.thought.show_message(message, growing=False)
        if grew:
            self.remove_class("-growing")
        self._show_head()
        self._show_foot()

    def set_place(self, place: tuple[int, int]) -> None:
        """Show which sibling this is: its number from 1, and how many there are."""
        if place != self.place:
            self.place = place
            self._show_head()

    def set_cut(self, cut: bool) -> None:
        """Whether the model no longer sees what stands above this message."""
        if cut != self.cut:
            self.cut = cut
            self._show_head()

    def set_timed(self, timed: bool) -> None:
        """Whether to show when the message was written."""
        if timed != self.timed:
            self.timed = timed
            self._show_head()

    def set_tint(self, pieces: Sequence[ScoredText]) -> None:
        """Show the answer in these pieces, tinted; without any, or while it grows, as Markdown."""
        if self._text is not None and self.message.role == "assistant":
            length = 0 if self.growing else len(before_loop(self.message))
            self._text.display = not self.tinted.show(pieces, length)

    def set_saved(self, saved: bool) -> None:
        """Show whether the message is on disk."""
        if saved != self.saved:
            self.saved = saved
            self._show_foot()

    def _show_head(self) -> None:
        self._head_line.update(self._head())

    def _show_foot(self) -> None:
        foot = self._foot()
        self._foot_line.display = bool(foot.plain)
        self._foot_line.update(foot)

    def _head(self) -> Content:
        message = self.message
        if message.role == "user":
            name = "Summary of what came before" if "summary_of" in message.x else "You"
            who: tuple[str, str] = (name, "bold $text-secondary")
        elif message.role == "system":
            who = ("System", "bold $text-accent")
        else:
            who = (clean_line(str(message.x.get("model") or "Assistant"), 48), "bold $text-primary")
        guest = message.x.get("guest")
        made = f"  {clean_line(guest, 48)}" if isinstance(guest, str) and message.role == "assistant" else ""
        which, of = self.place
        branch = (f"   ‹ {which}/{of} ›", "$text-accent") if of > 1 else ""
        if self.timed:
            made += f"  {formatting.clock_time(message.time, datetime.now().astimezone())}"
        if self.cut:
            return Content.assemble((CUT, "$text-warning"), "\n", who, (made, "$foreground 60%"), branch)
        return Content.assemble(who, (made, "$foreground 60%"), branch)

    def _foot(self) -> Content:
        parts: list[tuple[str, str]] = []
        status = self.message.status
        if not self.saved:
            parts.append(("not saved", "bold $text-error"))
        if not self.growing and status in _STATUS:
            parts.append(_STATUS[status])
        if status == "failed" and self.message.x.get("error"):
            parts.append((clean_line(str(self.message.x["error"])), "$text-error"))
        ended = str(self.message.x.get("stop_reason"))
        reason = ENDINGS.get(ended) if ended != "cancelled" else None  # that one is its status
        if reason and not self.growing:
            parts.append((reason, "$text-warning"))
        if self.message.role == "assistant" and not self.growing:
            line = formatting.reply_line(dict(self.message.x))
            if line:
                parts.append((line, "$foreground 60%"))
        spaced: list[str | tuple[str, str]] = []
        for part in parts:
            spaced += [(" · ", "$foreground 60%"), part] if spaced else [part]
        return Content.assemble(*spaced)
