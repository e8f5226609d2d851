"""Text that can be read in every theme: what a theme makes too faint is moved towards white or black.

The bound is that of WCAG 2.2, success criterion 1.4.3. In a theme of the terminal's own colours only the
terminal knows what they are: of its sixteen those are taken that reach the bound in all common palettes
(xterm, VGA, Windows Terminal, GNOME Terminal; the test has them).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

READABLE = 4.5
STEPS = 32  # from a colour to white or black
READ = re.compile("[^\\s\u2500-\u25ff]")  # lines, blocks and shapes are drawn: no text

Rgb = tuple[int, int, int]


def luminance(colour: Rgb) -> float:
    """Relative luminance, 0 (black) to 1 (white), of an sRGB colour (WCAG 2.2)."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (one / 255 for one in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    """The ratio of two colours' luminance, 1 (the same) to 21 (black on white)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@lru_cache(4096)
def readable(text: Rgb, background: Rgb) -> Rgb:
    """`text`, or the colour nearest to it on the way to white or black that is readable on `background`."""
    end = max(((0, 0, 0), (255, 255, 255)), key=lambda one: contrast(one, background))
    for step in range(STEPS):
        red, green, blue = (round(a + (b - a) * step / STEPS) for a, b in zip(text, end, strict=True))
        if contrast((red, green, blue), background) >= READABLE:
            return red, green, blue
    return end  # black or white is readable on every colour


BLACK, WHITE, BRIGHT_WHITE = 0, 7, 15
# By a colour's number, what stands for it as text on a dark and on a light background. Others can be read.
ON_DARK = {0: WHITE, 1: 9, 3: 11, 4: 14, 5: 11, 8: WHITE, 12: 14, 13: 11}
ON_LIGHT = {2: 4, 3: 5, 6: 4, 7: BLACK, 8: BLACK, 9: 1, 10: 4, 11: 5, 12: 4, 13: 5, 14: 4, 15: BLACK}


@lru_cache(4096)
def _own_style(style: Style, dark: bool) -> Style:
    """The same for a style of the terminal's own colours."""
    if style.bgcolor is not None and style.bgcolor.number is not None:
        # Black can be read on what is bright enough to be read on black.
        wanted: int | None = BRIGHT_WHITE if style.bgcolor.number in ON_DARK else BLACK
    else:
        number = style.color.number if style.color is not None else None
        wanted = (ON_DARK if dark else ON_LIGHT).get(number) if number is not None else None
    return style if wanted is None else style + Style(color=RichColor.from_ansi(wanted))


@lru_cache(4096)
def _readable_style(style: Style, behind: Rgb) -> Style:
    colour = style.color.triplet if style.color is not None else None
    if colour is None:
        return style
    if style.bgcolor is not None and not style.bgcolor.is_default:
        if (own := style.bgcolor.triplet) is None:
            return style
        behind = (own.red, own.green, own.blue)
    text = (colour.red, colour.green, colour.blue)
    wanted = readable(text, behind)
    if wanted == text:
        return style
    return style + Style.from_color(RichColor.from_rgb(*wanted))


def is_text(text: str) -> bool:
    """Whether there is a character in it that is read, neither blank nor drawn."""
    return READ.search(text) is not None


class ReadableText(LineFilter):
    """Textual's hook for drawn lines. own_dark: whether the theme is one of the terminal's own colours, and
    then of a dark terminal; None where it is not."""

    def __init__(self, own_dark: Callable[[], bool | None]) -> None:
        super().__init__()
        self._own_dark = own_dark

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, the text among them readable."""
        behind, own_dark = background.rgb, self._own_dark()

        def shown(style: Style) -> Style:
            return _readable_style(style, behind) if own_dark is None else _own_style(style, own_dark)

        return [
            Segment(text, shown(style), control)
            if style is not None and not control and is_text(text)
            else Segment(text, style, control)
            for text, style, control in segments
        ]
