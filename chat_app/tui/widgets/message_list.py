"""The conversation: the last messages mounted, earlier ones on demand, anchored to the end until scrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widgets import Static

from chat_app.chat.conversation import Message
from chat_app.tui.widgets.message_view import MessageView

MOUNTED = 20  # a thousand mounted paragraphs make every focus change take a second
MORE = 20


class EarlierHint(Static, can_focus=False):
    """Stands above the first mounted message; a click or Page Up at the top loads more."""

    def __init__(self) -> None:
        super().__init__(classes="earlier-hint")

    def on_click(self) -> None:
        """Ask for earlier messages."""
        self.post_message(MessageList.WantEarlier())


class MessageList(VerticalScroll, can_focus=False):
    """Shows a path of the tree. `make` builds the view of a message (it knows siblings and disk)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_home", "Top", show=False),
        Binding("end", "scroll_end", "End", show=False),
    ]

    class WantEarlier(TextualMessage):
        """The user came to the top of what is mounted."""

    class AtEnd(TextualMessage):
        """The list is anchored to its end again."""

    def __init__(self, make: Callable[[Message], MessageView], *, id: str) -> None:
        super().__init__(id=id)
        self._make = make
        self._path: list[Message] = []
        self._first = 0  # index in _path of the first mounted message
        self._loading = False
        self.following = True  # the end stays in sight while text is added

    def anchor(self, anchor: bool = True) -> None:
        """Stay at the end while text comes (or no longer, with False), and say so."""
        self.following = anchor
        super().anchor(anchor)
        if anchor:
            self.post_message(self.AtEnd())

    def release_anchor(self) -> None:
        """Stay where one reads: text that comes at the end no longer moves the list."""
        self.following = False
        super().release_anchor()

    def on_mount(self) -> None:
        """A conversation is shown from its end."""
        self.anchor()

    async def show_path(self, path: Sequence[Message]) -> None:
        """Draw another conversation or branch, keeping the views that stay as they are."""
        self._path = list(path)
        self._first = max(0, len(self._path) - MOUNTED)
        wanted = self._path[self._first :]
        keep = 0
        views = self.views()
        while keep < min(len(views), len(wanted)) and views[keep].message.id == wanted[keep].id:
            keep += 1
        with self.app.batch_update():
            if stale := views[keep:]:
                await self.remove_children(stale)
            await self._show_hint()
            await self.mount_all([self._make(message) for message in wanted[keep:]])
        self.anchor()

    async def add(self, message: Message) -> None:
        """A message at the end; the oldest mounted one goes when there are too many.

        One that is shown already is a reply that grows (again).
        """
        view = self.view_of(message.id)
        if view is not None:
            view.grow(message)
            return
        self._path.append(message)
        await self.mount(self._make(message))
        await self._prune()

    async def _prune(self) -> None:
        views = self.views()
        surplus = len(views) - 2 * MOUNTED
        # Only while the end is in sight: pruning above a reader would move the text under their eyes.
        if surplus > 0 and self.following:
            self._first += surplus
            await self.remove_children(views[:surplus])
            await self._show_hint()

    async def load_earlier(self) -> None:
        """Mount the messages before the first one; what is in sight stays where it is."""
        if self._loading or self._first == 0:
            return
        self._loading = True
        try:
            start = max(0, self._first - MORE)
            earlier = [self._make(message) for message in self._path[start : self._first]]
            views = self.views()
            self._first = start
            height = self.virtual_size.height
            self.release_anchor()
            await self.mount_all(earlier, before=views[0] if views else None)
            await self._show_hint()

            def hold_place() -> None:
                self.scroll_to(y=self.scroll_y + self.virtual_size.height - height, animate=False)
                self._loading = False

            self.call_after_refresh(hold_place)
        except BaseException:  # cancellation too: the next scroll must be able to load
            self._loading = False
            raise

    async def _show_hint(self) -> None:
        hints = self.query(EarlierHint)
        if self._first == 0:
            await hints.remove()
            return
        hint = hints.first() if hints else EarlierHint()
        hint.update(Content(f"▲ {self._first:,} earlier messages (Page Up or click)"))
        if not hints:
            await self.mount(hint, before=0)

    def views(self) -> list[MessageView]:
        """The mounted messages, top to bottom."""
        return [child for child in self.children if isinstance(child, MessageView)]

    def view_of(self, message_id: str) -> MessageView | None:
        """The mounted view of a message; None where it is not mounted."""
        return next((view for view in reversed(self.views()) if view.message.id == message_id), None)

    async def focus_head(self, message_id: str) -> None:
        """Focus a message, if it is mounted, and show it from its first line on."""
        view = self.view_of(message_id)
        if view is None:
            return
        self.release_anchor()  # at its end, the list would push a long branch's head out of sight
        view.focus(scroll_visible=False)
        self.call_after_refresh(lambda: self.scroll_to_widget(view, animate=False, top=True))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again once the user is back at the end; at the top ask for earlier messages."""
        super().watch_scroll_y(old_value, new_value)
        if not self.following and new_value >= self.max_scroll_y:
            self.following = True
            self.post_message(self.AtEnd())
        if new_value <= 0 < old_value and self._first:
            self.post_message(self.WantEarlier())
