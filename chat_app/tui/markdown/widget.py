"""One widget for a whole message. It draws the lines in sight and knows the others only by their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.content import Content
from textual.events import Click
from textual.geometry import Region, Size
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual
from textual.widget import Widget

from chat_app.chat.finding import places_of
from chat_app.text.markdown import Document
from chat_app.text.plain import PlainDocument
from chat_app.text.sanitize import clean
from chat_app.tui.markdown.inline import LINK
from chat_app.tui.markdown.layout import Layout, Place
from chat_app.tui.marks import CURRENT, STYLE


class FlowText(Widget, can_focus=False):
    """A model's words as Markdown, or a user's as they were typed. A click on a link says where it leads and
    goes nowhere."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("em", "strong", "s", "code", "link", "h1", "h2", "h3", "h4"),
        *("beside", "rule", "table-head", "code-block", "code-title"),
    }
    DEFAULT_CSS = """
    FlowText {
        height: auto;
        & > .em { text-style: italic; }
        & > .strong { text-style: bold; }
        & > .s { text-style: strike; }
        & > .code { color: $text-warning; background: $warning 10%; }
        & > .link { color: $text-secondary; text-style: underline; }
        & > .h1 { color: $text-primary; text-style: bold underline; }
        & > .h2 { color: $text-primary; text-style: bold; }
        & > .h3 { color: $text-secondary; text-style: bold; }
        & > .h4 { text-style: bold; }
        & > .beside { color: $text-primary; }
        & > .rule { color: $foreground 40%; }
        & > .table-head { text-style: bold; }
        & > .code-block { background: $foreground 5%; }
        & > .code-title { color: $foreground 70%; }
    }
    """

    def __init__(
        self,
        text: str = "",
        on_link: Callable[[str], object] | None = None,
        *,
        read: Callable[[], Document | PlainDocument] = Document,
    ) -> None:
        """`on_link` hears of a link that is clicked: its address, as inert text. `read` makes what takes the
        text apart."""
        super().__init__()
        self._on_link = on_link
        self.auto_links = False
        self._read = read
        self._document = read()
        self._document.write(text)
        self._layout: Layout | None = None
        self._ansi = False
        self._strips: dict[int, Strip] = {}
        self._sought = ""
        self._current: int | None = None
        # By logical line: (number, start, end) of each place of what is looked for; None: not known.
        self._matches: dict[int, list[tuple[int, int, int]]] | None = None

    @property
    def source(self) -> str:
        """All of the text so far."""
        return self._document.source

    @property
    def code_lines(self) -> list[int]:
        """The lines in which blocks of code begin; none before they are laid out."""
        return self._layout.code_lines if self._layout is not None else []

    def write(self, text: str) -> None:
        """Add to the end; what that costs does not depend on what stands there."""
        changed = self._document.write(text)
        self._matches = None
        layout = self._layout
        if layout is None:
            self.refresh(layout=True)
            return
        height = layout.height
        first = layout.update(self._document.blocks, changed)
        for number in [one for one in self._strips if one >= first]:
            del self._strips[number]
        if layout.height != height:
            self.refresh(layout=True)
            self.call_after_refresh(self._check_height)
        else:
            self.refresh(Region(0, first, self.size.width, height - first))

    def _check_height(self) -> None:
        """Textual may lay out between two calls of `refresh`, and then takes the second for the first."""
        if self._layout is not None and self._layout.height != self.content_size.height:
            self.refresh(layout=True)

    def set_text(self, text: str) -> None:
        """Other words in the place of all there are."""
        self._document = self._read()
        self._document.write(text)
        self._forget()

    def _forget(self) -> None:
        self._layout = self._matches = None
        self._strips.clear()
        self.refresh(layout=True)
        self.call_after_refresh(self._check_height)

    def _layout_for(self, width: int) -> Layout:
        if self._layout is None:
            self._ansi = self.app.native_ansi_color
            self._layout = Layout(width, ansi=self._ansi)
            self._layout.update(self._document.blocks, 0)
        elif self._layout.width != width:
            self._layout.refit(width)
            self._matches = None
            self._strips.clear()
        return self._layout

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as there is room."""
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Lines of the layout for this width."""
        return self._layout_for(width).height if width > 0 else 0

    def place_at(self, y: int) -> Place | None:
        """Which words stand in line `y`; None before they are laid out, and where there are none."""
        if self._layout is None or not self._document.blocks:
            return None
        return self._layout.place_of(max(0, min(y, self._layout.height - 1)))

    def line_of(self, place: Place) -> int:
        """The line in which these words stand now."""
        if self._layout is None or place.block >= len(self._document.blocks):
            return 0
        return self._layout.line_at(place)

    # What is looked for.

    def seek(self, text: str, current: int | None) -> None:
        """Mark the places of `text`, the one numbered `current` most of all; "" marks none."""
        if (text, current) != (self._sought, self._current):
            self._sought, self._current, self._matches = text, current, None
            self._strips.clear()
            self.refresh()

    def line_of_match(self, number: int) -> int:
        """The line of a place; of the last one where marks of the source hide some."""
        found = [(line, start) for line, places in self._found().items() for _, start, _ in places]
        if self._layout is None or not found:
            return 0
        return self._layout.line_of(*found[min(number, len(found) - 1)])

    def _found(self) -> dict[int, list[tuple[int, int, int]]]:
        if self._matches is None:
            self._matches = {}
            count = 0
            lines = self._layout.words if self._layout is not None and self._sought else ()
            for line, words in enumerate(lines):
                places = places_of(words, self._sought)
                if places:
                    self._matches[line] = [(count + n, start, end) for n, (start, end) in enumerate(places)]
                    count += len(places)
        return self._matches

    # Drawing.

    def notify_style_update(self) -> None:
        """Other colours: what was drawn is drawn anew where it is in sight; no line is laid out anew, unless
        colours of code come from the terminal now, or no longer."""
        super().notify_style_update()
        self._strips.clear()
        if self._layout is not None and self._ansi != self.app.native_ansi_color:
            self._forget()

    def selection_updated(self, selection: Selection | None) -> None:
        """Drawn lines carry the selection, so they are drawn anew."""
        self._strips.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of the layout, drawn when it first comes in sight and then kept."""
        width = self.content_size.width
        if width <= 0:
            return Strip.blank(0)
        layout = self._layout_for(width)
        if not 0 <= y < layout.height:
            return Strip.blank(width, self.visual_style.rich_style)
        if (strip := self._strips.get(y)) is None:
            strip = self._strips[y] = self._draw(layout, y, width)
        return strip

    def _draw(self, layout: Layout, y: int, width: int) -> Strip:
        line = layout.line(y)
        body = line.body
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(line.logical)) is not None:
            first, last = span
            end = len(body) if last == -1 else min(len(body), last - line.start)
            begin = max(0, first - line.start)
            if begin < end:
                body = body.stylize(self._selection_style, begin, end)
        for number, begin, end in self._found().get(line.logical, ()) if self._sought else ():
            begin, end = max(0, begin - line.start), min(len(body), end - line.start)
            if begin < end:
                body = body.stylize(CURRENT if number == self._current else STYLE, begin, end)
        style = self.visual_style
        before = self._strip(Content(line.before).stylize(".beside"), style, 0)
        room = max(0, width - before.cell_length)
        if line.fill:
            body = body.pad_right(max(0, room - body.cell_length)).stylize_before(line.fill)
            before = self._strip(self._marked(line.before, line.fill), style, 0)
        own = self._strip(body, style, room)
        strip = Strip.join([before, own.apply_offsets(line.start, line.logical)])
        return strip.adjust_cell_length(width, style.rich_style)

    def _marked(self, before: str, fill: str) -> Content:
        """What stands before a filled line: signs of quotes and items, then blanks that are filled too."""
        blanks = len(before) - len(before.rstrip(" ↪"))
        cut = len(before) - min(blanks, 1 if "↪" not in before else 3)
        return Content.assemble((before[:cut], ".beside"), Content(before[cut:]).stylize(fill))

    def _strip(self, content: Content, style: Style, width: int) -> Strip:
        strips = Visual.to_strips(
            self, content, max(1, width or content.cell_length), 1, style, apply_selection=False
        )
        return strips[0] if strips and content else Strip([])

    @property
    def _selection_style(self) -> Style:
        return Style.from_styles(self.screen.get_component_styles("screen--selection"))

    # What is copied, and links.

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What is copied: the logical lines, without the breaks of wrapping."""
        if self._layout is None:
            return None
        # A blank: `extract` would drop empty lines at the end and then miss the line it looks for.
        return selection.extract("\n".join(self._layout.words) + "\n "), "\n"

    def on_click(self, event: Click) -> None:
        """Tell where the link under the pointer leads."""
        address = event.style.meta.get(LINK)
        if isinstance(address, str) and self._on_link is not None:
            event.stop()
            self._on_link(clean(address))
