"""Text that can be read in every theme: what a theme makes too faint is moved towards white or black.

The bound is that of WCAG 2.2, success criterion 1.4.3. In a theme of the terminal's own colours only the
terminal knows what they are; those are left alone.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

READABLE = 4.5
STEPS = 32  # from a colour to white or black
DRAWN = ("\u2500", "\u25ff")  # lines, blocks and shapes: no text

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
    return any(not (one.isspace() or DRAWN[0] <= one <= DRAWN[1]) for one in text)


class ReadableText(LineFilter):
    """Textual's hook for drawn lines."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, the text among them readable."""
        behind = background.rgb
        return [
            Segment(text, _readable_style(style, behind), control)
            if style is not None and not control and is_text(text)
            else Segment(text, style, control)
            for text, style, control in segments
        ]
