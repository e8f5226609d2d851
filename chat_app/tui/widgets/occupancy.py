"""The KV cache as a strip: one stretch for each message, solid where its positions are computed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from chat_app.text import formatting


class OccupancyStrip(Widget, can_focus=False):
    """Scaled to the conversation, not to the context: each message's share is visible from the first on.

    After a reset every stretch is hollow, and it fills again while the next prompt is computed.
    """

    COMPONENT_CLASSES = frozenset({"strip--user", "strip--assistant", "strip--empty"})  # type: ignore[assignment]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._segments: tuple[tuple[str, int], ...] = ()
        self._held = 0

    def show(self, segments: Sequence[tuple[str, int]], held: int) -> None:
        """segments: (role, tokens) of each message in order; held: positions that the cache holds."""
        if (tuple(segments), held) != (self._segments, self._held):
            self._segments, self._held = tuple(segments), held
            self.refresh()

    def cells(self, width: int) -> list[tuple[str, int, int]]:
        """(role, solid cells, hollow cells) of each message."""
        counts = [count for _, count in self._segments]
        found: list[tuple[str, int, int]] = []
        before = 0
        for (role, count), cells in zip(self._segments, formatting.shares(counts, width), strict=True):
            held = min(max(self._held - before, 0), count)
            solid = round(cells * held / count) if count else 0
            found.append((role, solid, cells - solid))
            before += count
        return found

    def render_line(self, y: int) -> Strip:
        """The strip stands on the first line; others are blank."""
        width = self.size.width
        if y > 0:
            return Strip.blank(width)
        empty = self.get_component_rich_style("strip--empty")
        line: list[Segment] = []
        for role, solid, hollow in self.cells(width):
            style = self.get_component_rich_style(
                "strip--assistant" if role == "assistant" else "strip--user"
            )
            line += [Segment("█" * solid, style), Segment("░" * hollow, style)]
        if not self._segments:
            line = [Segment("░" * width, empty)]
        return Strip(line).adjust_cell_length(width)
