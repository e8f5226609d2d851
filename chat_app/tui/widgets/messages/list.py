"""The conversation: a stretch of it mounted, more on demand, anchored to the end until scrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widgets import Static

from chat_app.chat.conversation import Message
from chat_app.chat.finding import Hit
from chat_app.tui.widgets.messages.view import MessageView, Spot
from chat_app.tui.widgets.messages.window import reach


class MoreHint(Static, can_focus=False):
    """Stands above the first mounted message (step -1) or below the last (1); a click loads more."""

    def __init__(self, step: int) -> None:
        super().__init__(classes="more-hint")
        self.step = step

    def show(self, count: int) -> None:
        """So many messages are not mounted."""
        sign, which, key = ("▲", "earlier", "Page Up") if self.step < 0 else ("▼", "later", "Page Down")
        self.update(Content(f"{sign} {count:,} {which} messages ({key} or click)"))

    def on_click(self) -> None:
        """Ask for them."""
        self.post_message(MessageList.WantMore(self.step))


class Held(NamedTuple):
    """What stands in the first line in sight."""

    view: MessageView
    spot: Spot


class MessageList(VerticalScroll, can_focus=False):
    """Shows a path of the tree. `make` builds the view of a message (it knows siblings and disk)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_home", "Top", show=False),
        Binding("end", "scroll_end", "End", show=False),
    ]

    class WantMore(TextualMessage):
        """The user came to the top (step -1) or the end (1) of what is mounted, and there is more."""

        def __init__(self, step: int) -> None:
            self.step = step
            super().__init__()

    class AtEnd(TextualMessage):
        """The list is anchored to its end again."""

    def __init__(self, make: Callable[[Message], MessageView], *, id: str) -> None:
        super().__init__(id=id)
        self._make = make
        self._path: list[Message] = []
        self._first = self._last = 0  # the mounted stretch of _path
        self._loading = False
        self._held: Held | None = None
        self._width = 0  # for which `_held` is known
        self.following = True  # the end stays in sight while text is added

    @property
    def has_earlier(self) -> bool:
        """Whether messages above the first one are not mounted."""
        return self._first > 0

    @property
    def has_later(self) -> bool:
        """Whether messages below the last one are not mounted."""
        return self._last < len(self._path)

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
        super().anchor(False)  # Textual would follow again wherever a resize puts the end in sight

    def _follow_end(self) -> None:
        if not (self.following or self.has_later) and self.scroll_y >= self.max_scroll_y:
            self.anchor()

    def on_mount(self) -> None:
        """A conversation is shown from its end."""
        self.anchor()

    # What is mounted.

    async def show_path(self, path: Sequence[Message]) -> None:
        """Draw another conversation or branch from its end, keeping the views that stay as they are."""
        self._path = list(path)
        await self._mount_stretch(reach(self._path, len(self._path), -1), len(self._path))
        self.anchor()

    async def to_end(self) -> None:
        """Go to the newest text and follow it."""
        if self.has_later:
            await self.show_path(self._path)
        else:
            self.anchor()

    async def add(self, message: Message) -> None:
        """A message at the end; the oldest mounted ones go when there are too many.

        One that is shown already is a reply that grows (again). What the user says brings the end back.
        """
        view = self.view_of(message.id)
        if view is not None:
            view.grow(message)
            return
        self._path.append(message)
        if self._last < len(self._path) - 1:
            if message.role == "user":
                await self.to_end()
            else:
                await self._show_hints()
            return
        await self.mount(self._make(message), after=self._last_view())
        self._last = len(self._path)
        # Only while the end is in sight: pruning above a reader would move the text under their eyes.
        if self.following:
            await self._prune_above(self._two(self._last, -1))

    def _last_view(self) -> MessageView | None:
        views = self.views()
        return views[-1] if views else None

    def _two(self, start: int, step: int) -> int:
        """Two stretches from here: no more is mounted."""
        return reach(self._path, reach(self._path, start, step), step)

    async def _prune_above(self, first: int) -> None:
        if first > self._first:
            await self.remove_children(self.views()[: first - self._first])
            self._first = first
            await self._show_hints()

    async def _prune_below(self, last: int) -> None:
        views = self.views()
        if last < self._last and not views[-1].growing:  # what grows is drawn on
            await self.remove_children(views[last - self._first :])
            self._last = last
            await self._show_hints()

    async def _mount_stretch(self, first: int, last: int) -> None:
        """Mount these messages and no others."""
        wanted = self._path[first:last]
        keep = 0
        views = self.views()
        while keep < min(len(views), len(wanted)) and views[keep].message.id == wanted[keep].id:
            keep += 1
        self._first, self._last, self._held = first, last, None
        with self.app.batch_update():
            if stale := views[keep:]:
                await self.remove_children(stale)
            await self.mount_all([self._make(message) for message in wanted[keep:]], after=self._last_view())
            await self._show_hints()

    async def load(self, step: int) -> None:
        """Mount messages before the first one (step -1) or behind the last (1), and let others go at the far
        end; what is in sight stays where it is."""
        if self._loading or not (self.has_earlier if step < 0 else self.has_later):
            return
        self._loading = True
        try:
            held = self._spot_at_top()
            top, bottom = self._in_sight()
            self.release_anchor()
            edge = self._first if step < 0 else self._last
            reached = reach(self._path, edge, step)
            more = [self._make(one) for one in self._path[min(edge, reached) : max(edge, reached)]]
            views = self.views()
            with self.app.batch_update():
                if step < 0:
                    await self.mount_all(more, before=views[0] if views else None)
                    self._first = reached
                    await self._prune_below(max(bottom, self._two(reached, 1)))
                else:
                    await self.mount_all(more, after=self._last_view())
                    self._last = reached
                    await self._prune_above(min(top, self._two(reached, -1)))
                await self._show_hints()

            def hold_place() -> None:
                self._hold(held)
                self._loading = False

            self.call_after_refresh(hold_place)
        except BaseException:  # cancellation too: the next scroll must be able to load
            self._loading = False
            raise

    async def reveal(self, message_id: str) -> MessageView | None:
        """Mount what stands around a message of the path unless it is mounted; None where it is not on it."""
        if (view := self.view_of(message_id)) is not None:
            return view
        index = next((place for place, one in enumerate(self._path) if one.id == message_id), None)
        if index is None:
            return None
        self.release_anchor()
        await self._mount_stretch(reach(self._path, index, -1), reach(self._path, index, 1))
        return self.view_of(message_id)

    async def _show_hints(self) -> None:
        """Above and below, how many messages are not mounted."""
        for step, count in ((-1, self._first), (1, len(self._path) - self._last)):
            found = [hint for hint in self.query(MoreHint) if hint.step == step]
            if count and not found:
                found = [MoreHint(step)]
                await self.mount(found[0], before=0 if step < 0 else None)
            for hint in found:
                if count:
                    hint.show(count)
                else:
                    await hint.remove()

    def views(self) -> list[MessageView]:
        """The mounted messages, top to bottom."""
        return [child for child in self.children if isinstance(child, MessageView)]

    def view_of(self, message_id: str) -> MessageView | None:
        """The mounted view of a message; None where it is not mounted."""
        return next((view for view in reversed(self.views()) if view.message.id == message_id), None)

    async def focus_head(self, message_id: str) -> None:
        """Focus a message and show it from its first line on."""
        view = await self.reveal(message_id)
        if view is None:
            return
        self.release_anchor()  # at its end, the list would push a long branch's head out of sight
        view.focus(scroll_visible=False)
        self.call_after_refresh(lambda: self.scroll_to_widget(view, animate=False, top=True))

    async def show_hit(self, hit: Hit) -> None:
        """Bring a place that was found into sight, with some lines above it."""
        view = await self.reveal(hit.message_id)
        if view is None:
            return
        self.release_anchor()

        def show() -> None:
            y = view.virtual_region.y + view.line_of_hit(hit)
            if not self.scroll_y <= y < self.scroll_y + self.size.height:
                self.scroll_to(y=y - self.size.height // 3, animate=False, immediate=True)

        self.call_after_refresh(show)

    def first_in_sight(self) -> str | None:
        """The id of the first message in sight."""
        held = self._spot_at_top()
        return held.view.message.id if held is not None else None

    # The place at which one reads.

    def _in_sight(self) -> tuple[int, int]:
        """The stretch of the path that is in sight."""
        top, bottom = self.scroll_y, self.scroll_y + self.size.height
        regions = [one.virtual_region for one in self.views()]
        return (
            self._first + sum(one.bottom <= top for one in regions),
            self._first + sum(one.y < bottom for one in regions),
        )

    def _spot_at_top(self) -> Held | None:
        """What stands in the first line in sight."""
        top = round(self.scroll_y)
        view = next((one for one in self.views() if one.virtual_region.bottom > top), None)
        return Held(view, view.spot_at(top - view.virtual_region.y)) if view is not None else None

    def _hold(self, held: Held | None) -> None:
        """Bring this to the first line in sight again."""
        if held is not None and held.view.is_mounted:
            y = held.view.virtual_region.y + held.view.line_of(held.spot)
            self.scroll_to(y=y, animate=False, immediate=True)

    def on_resize(self) -> None:
        """At another width the line stays at which one reads; a list at its end stays there."""
        if self.size.width != self._width:
            if self._width and not self.following:
                self._hold(self._held)
            self._width = self.size.width

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again once the user is back at the end; at the top ask for earlier messages, at the end of
        what is mounted for later ones."""
        super().watch_scroll_y(old_value, new_value)
        if self.size.width != self._width:
            return  # a resize moved it, which the place survives
        self._held = self._spot_at_top()
        if not self.following and new_value >= self.max_scroll_y:
            if self.has_later:
                self.post_message(self.WantMore(1))
            else:  # later: an animated scroll, of which this is a step, must not be ended by it
                self.call_later(self._follow_end)
        if new_value <= 0 < old_value and self.has_earlier:
            self.post_message(self.WantMore(-1))
