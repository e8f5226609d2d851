"""Attached files on the screen: above the prompt before they are sent, folded in the message afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from textual.content import Content
from textual.widgets import Static

from chat_app.attachments.attachment import Attachment, AttachmentError, attachments_of
from chat_app.attachments.finding import attach
from chat_app.attachments.mentions import mentions
from chat_app.attachments.sizes import Size, Sizes, sizes_of
from chat_app.chat.conversation import Message
from chat_app.chat.slash import is_command
from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.widgets.messages.fold import Fold
from chat_app.tui.work import Work

MUTED = "$foreground 60%"
LINES_SHOWN = 4
UNFOLDED_LINES = 200  # of one file: more than one reads here, and quick to draw

SizesOf = Callable[[Sequence[Attachment]], Awaitable[Sizes]]


class AttachmentPreview(Static, can_focus=False):
    """What the typed prompt mentions: each file's tokens and its share of the context that is left."""

    def __init__(self, sizes: SizesOf, work: Work, changed: Callable[[], object], *, id: str) -> None:
        """changed: called once more of `files` is read."""
        super().__init__(id=id)
        self._sizes_of, self._work, self._changed = sizes, work, changed
        self._names: list[str] = []
        self.files: tuple[Attachment, ...] = ()  # those of them that are read

    def follow(self, text: str) -> None:
        """The prompt is `text` now. Files are read, and tokens counted, beside the typing."""
        names = [] if is_command(text) else mentions(text)
        if names == self._names:
            return
        self._names = names
        self.files = tuple(one for one in self.files if one.typed in names)
        self.display = bool(names)
        if names:
            self._work.spawn(self._look(names))

    async def _look(self, names: list[str]) -> None:
        try:
            found = await asyncio.to_thread(attach, names, typed=True)
        except AttachmentError as error:
            if names == self._names:
                self.update(Content.styled(clean_line(str(error)), "$text-error"))
            return
        if names == self._names:
            self._show(sizes_of(found.attachments, None, 0), found.notes)
            sizes = await self._sizes_of(found.attachments)  # while a reply is written this takes its time
            if names == self._names:
                self._show(sizes, found.notes)
                self.files = found.attachments
                self._changed()

    def _show(self, sizes: Sizes, notes: Sequence[str]) -> None:
        rows = list(sizes.rows)
        if len(rows) > LINES_SHOWN:
            rows = rows[: LINES_SHOWN - 1]
        more = len(sizes.rows) - len(rows)
        lines = [(one.line, _colour(one)) for one in rows]
        if len(sizes.rows) > 1:
            hidden = f" ({more} more)" if more else ""
            lines.append((f"{sizes.total.line}{hidden}", _colour(sizes.total)))
        lines += [(clean_line(note), MUTED) for note in notes]
        parts: list[str | tuple[str, str]] = []
        for line in lines:
            parts += ["\n", line] if parts else [line]
        self.update(Content.assemble(*parts))


class AttachedFiles(Fold):
    """The files of a message: a line for each, and below it the text where it is unfolded."""

    def __init__(self, message: Message) -> None:
        super().__init__(self._drawn, classes="attached")
        self._files = attachments_of(message.x)
        self.draw()

    def _drawn(self) -> Content:
        """The line of each file, and its text where they are unfolded."""
        parts: list[str | tuple[str, str]] = []
        for one in self._files:
            lines = one.text.splitlines()
            n = f"{len(lines):,} line{'' if len(lines) == 1 else 's'}"
            part = f", {one.part}" if one.part else ""
            parts.append((f"{self.mark} {clean_line(one.name, 60)} · {n} · {one.encoding}{part}\n", MUTED))
            if self.unfolded:
                told = one.shown_text.splitlines()
                shown = clean("\n".join(told[:UNFOLDED_LINES])).rstrip()
                rest = len(told) - UNFOLDED_LINES
                more = f"\n… and {rest:,} lines more" if rest > 0 else ""
                parts.append((f"{shown}{more}\n", "$foreground 80%"))
        return Content.assemble(*parts).rstrip()


def _colour(size: Size) -> str:
    return MUTED if size.fits else "$text-warning"
