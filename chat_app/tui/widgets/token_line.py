"""What is known of the token under the cursor: its alternatives, in a row of its own below the messages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from chat_app.chat.inspection import Alternative, TokenLook
from chat_app.chat.token_scores import ScoredText
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean

MUTED = "$foreground 60%"
NAME_LENGTH = 16
HINT = "← → token, ↑ ↓ choice · typing goes to the prompt"
LINES, LINES_IF_SHORT = 3, 1  # of alternatives
SHORT = 30  # lines of the terminal
GAP = "   "
Part = str | tuple[str, str]
MODE: tuple[Part, ...] = (("TOKENS ", "bold $text-accent"), (HINT, MUTED))


def visible(text: str) -> str:
    """A token on one line: its spaces and line breaks shown."""
    shown = clean(text).replace("\n", "⏎").replace("\t", "→")
    return shown.replace(" ", "·") if shown.strip() == "" else shown


def reason_of(one: Alternative) -> str:
    """What kept a token from being drawn, in words; empty where it could be."""
    return "not allowed" if one.barred else one.cut


class TokenLine(Static, can_focus=False):
    """Hidden unless a cursor walks through a reply."""

    def show(self, look: TokenLook, choice: int) -> None:
        """What could stand at the token, the one marked first of all."""
        self.display = True
        chosen = look.chosen
        parts: list[Part] = [
            (visible(chosen.text), "bold $text-primary"),
            (f"  {fmt.percent(chosen.probability)}", ""),
            (f" · rank {look.rank}" if look.rank else f" · rank below {len(look.top)}", MUTED),
        ]
        if not math.isnan(look.entropy):
            parts.append((f" · {look.entropy:.1f} bit", MUTED))
        if look.allowed_n is not None:
            parts.append((f" · {look.allowed_n:,} tokens allowed", MUTED))
        cuts = ["", *(one.cut for one in look.top)]
        others = [
            # What one filter took away mostly stands together: it is named before the first.
            _alternative(one, named=one.cut != cut, stands=one.id == chosen.id, marked=place == choice)
            for place, (cut, one) in enumerate(zip(cuts, look.top, strict=False))
        ]
        most = LINES if self.app.size.height >= SHORT else LINES_IF_SHORT
        lines = packed(others, self.size.width or self.app.size.width, most, choice)
        self.update(Content("\n").join([Content.assemble(*parts), *lines, Content.assemble(*MODE)]))

    def show_piece(self, piece: ScoredText, why: str) -> None:
        """What the reply's record has of a token, and why there is no more to be shown."""
        self.display = True
        known = "" if math.isnan(piece.logprob) else f"  {fmt.percent(math.exp(piece.logprob))}"
        text = (visible(piece.text), "bold $text-primary")
        self.update(Content.assemble(text, known, "\n", (clean(why), MUTED), "\n", *MODE))


def packed(entries: Sequence[Content], width: int, most: int, choice: int) -> list[Content]:
    """Entries side by side in at most so many lines of `width` cells, the chosen one among them. None breaks
    over two lines."""
    lines: list[list[Content]] = []
    room, chosen_line = 0, 0
    for place, entry in enumerate(entries):
        needed = entry.cell_length + len(GAP)
        if needed > room:
            lines.append([])
            room = width + len(GAP)
        lines[-1].append(entry)
        room -= needed
        chosen_line = len(lines) - 1 if place == choice else chosen_line
    first = max(0, chosen_line - most + 1)
    return [Content(GAP).join(line) for line in lines[first : first + most]]


def _alternative(one: Alternative, *, named: bool, stands: bool, marked: bool) -> Content:
    """named: what kept it from being drawn is said, or that nothing did."""
    style = "bold $text-primary" if stands else f"strike {MUTED}" if one.barred else MUTED if one.cut else ""
    why = f"{'' if one.barred else 'cut by '}{reason_of(one)}: " if one.cut else "can be drawn: "
    return Content.assemble(
        (why if named else "", "$text-warning"),
        (visible(one.text)[:NAME_LENGTH], "reverse" if marked else style),
        (f" {fmt.percent(one.probability)}", MUTED),
    )
