"""Small lines around the chat: title, banners, queued prompts, completions."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from chat_app.chat.slash import Completion
from chat_app.chat.view import Severity
from chat_app.text.sanitize import clean_line
from chat_app.tui.key_words import with_keys

MUTED = "$foreground 60%"
COMPLETIONS_SHOWN = 8
SIGNS: dict[Severity, tuple[str, str]] = {
    "information": ("· ", "$text-accent"),
    "warning": ("! ", "$text-warning"),
    "error": ("! ", "$text-error"),
}


class TitleBar(Static, can_focus=False):
    """The first line: the app, the chat, the model and whether it is ready."""

    def show(self, title: str, model: str, state: str, style: str, *, host: str = "", held: str = "") -> None:
        """`state` in a word or two; `style` colours it. host: the machine that what is said goes to. held:
        what replies are held to, as a schema: it lasts, and nothing else on the screen would say why."""
        room = max(0, self.size.width or 80)
        marks = [f"remote · {clean_line(host, 30)}"] * bool(host) + [held] * bool(held)
        right: list[str | tuple[str, str]] = [
            *((f" {mark} ", "bold $background on $warning") for mark in marks),
            (f"{' ' * bool(marks)}{clean_line(model, 24 if marks else 40)}  ", MUTED),
            ("● ", style),
            (state, style),
            " ",
        ]
        right_width = sum(len(part if isinstance(part, str) else part[0]) for part in right)
        left_room = room - right_width - 16
        name = clean_line(title, left_room) if left_room > 8 and title else ""
        left: list[str | tuple[str, str]] = [" ", ("llama-chat", "bold $text-primary")]
        if name:
            left.append((f"  {name}", "bold"))
        left_width = sum(Content(part if isinstance(part, str) else part[0]).cell_length for part in left)
        gap = " " * max(1, room - left_width - right_width)
        self.update(Content.assemble(*left, gap, *right).truncate(room) if room else Content(""))


class Banner(Static, can_focus=False):
    """Something is wrong and stays wrong until it is mended; hidden while all is well."""

    def show(self, text: str | None, advice: str = "") -> None:
        """Show `text` and what helps; None hides the banner."""
        self.display = text is not None
        if text is not None:
            self.update(Content.assemble((" ! ", "bold"), clean_line(text), (f"  {advice}", "bold")))


class NewsWanted(Message):
    """A screen with a status row came on top: what is said now belongs there."""


class StatusRow(Static, can_focus=False):
    """Short news, in a row of its own (of the chat above the prompt, of a dialog in the last line): it never
    covers a word. What has no room in the rows that the stylesheet allows ends with "…"."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._note = Content("")

    def show_note(self, text: str, severity: Severity) -> None:
        """Show a sentence, inert already."""
        self._note = Content.assemble((SIGNS[severity][0], f"bold {SIGNS[severity][1]}"), text)
        self.add_class("-said")
        self.on_resize()

    def on_resize(self) -> None:
        """Fit the note into the rows there are."""
        if self.has_class("-said"):
            self.update(self._fitted())

    def _fitted(self) -> Content:
        width, rows = self.size.width, self.styles.max_height
        lines = self._note.wrap(width) if width else []
        if rows is None or len(lines) <= rows.value:
            return self._note
        *whole, last = lines[: int(rows.value)]
        return Content("\n").join([*whole, last.rstrip().truncate(width - 1) + "…"])

    def clear_note(self) -> None:
        """Show none."""
        if self.has_class("-said"):
            self.remove_class("-said")
            self.update("")


class QueueLine(Static, can_focus=False):
    """Prompts that wait for the engine."""

    def show(self, prompts: Sequence[str], reason: str) -> None:
        """Show the first three prompts and how many more there are; none hides the line."""
        self.display = bool(prompts)
        lines = [f"  {number}. {clean_line(text, 200)}" for number, text in enumerate(prompts[:3], 1)]
        if len(prompts) > 3:
            lines.append(f"  … and {len(prompts) - 3} more")
        back = with_keys(self, " ({chat.stop} takes them back)") if prompts else ""
        head = (f"Queued, sent when {reason}{back}", "$text-warning")
        self.update(Content.assemble(head, "\n" + "\n".join(lines)))


class CompletionList(Static, can_focus=False):
    """What the typed command may become: Up and Down mark one, Tab and Enter take it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._completions: list[Completion] = []
        self._at = 0
        self._typed = ""

    def marked_for(self, typed: str) -> Completion | None:
        """The one that Tab and Enter take; None where the list is empty, or was made for less than is typed
        now: keys may come faster than the list follows them, and what nobody has seen is not taken."""
        return self._completions[self._at] if self._completions and self._typed == typed else None

    def show(self, typed: str, completions: Sequence[Completion]) -> None:
        """What `typed` may become. The mark goes back to the first when the completions change."""
        self._typed = typed
        lines = [one.line for one in completions]
        if lines != [one.line for one in self._completions]:
            self._at = 0
        self._completions = list(completions)
        self.display = bool(completions)
        self._draw()

    def choose(self, step: int) -> bool:
        """Move the mark; False where there is nothing to choose from."""
        if len(self._completions) < 2:
            return False
        self._at = (self._at + step) % len(self._completions)
        self._draw()
        return True

    def _draw(self) -> None:
        """As many as fit, around the mark, and how many stand above and below."""
        first = max(0, min(self._at - COMPLETIONS_SHOWN // 2, len(self._completions) - COMPLETIONS_SHOWN))
        shown = self._completions[first : first + COMPLETIONS_SHOWN]
        many = len(self._completions) > 1
        width = max((len(one.shown) for one in shown), default=0)
        lines: list[str | tuple[str, str]] = []
        for place, one in enumerate(shown, first):
            lines += [
                "\n" if lines else "",
                ("▶ " if many and place == self._at else "  " if many else " ", "bold $text-accent"),
                (f"{one.shown:<{width}}  ", "bold $text-accent"),
                (clean_line(one.about), MUTED),
            ]
        if len(self._completions) > COMPLETIONS_SHOWN:
            lines.append(
                (f"\n  {self._at + 1} of {len(self._completions)} · ↑ ↓ choose · Tab takes it", MUTED)
            )
        self.update(Content.assemble(*lines))
