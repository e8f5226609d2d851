"""How a reply could go on from one of its tokens: eight ways, where they agree, and one to be kept."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.comparing.agreement import Fork
from chat_app.chat.comparing.continuations import DRAWN_N, MOST_TOKENS, Continuations
from chat_app.text.sanitize import clean
from chat_app.tui.growth import Growth
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.token_line import MUTED

INDENT = "  "
MIN_WIDTH = 20
HINT = (
    "{continuations.up} {continuations.down} choose · {continuations.keep} keeps it as a branch, which "
    "goes on · {dialog.close} leaves nothing behind"
)


class ContinuationsScreen(Dialog[bool]):
    """Dismissed with True where one is kept. Up and Down mark one of the ways, Enter keeps it as a branch,
    Esc leaves nothing behind. spawn: runs work that goes on when this screen has gone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "choose(1)", "Next one", id="continuations.down"),
        Binding("up", "choose(-1)", "Previous one", id="continuations.up"),
        Binding("enter", "keep", "Keep it as a branch", id="continuations.keep"),
    ]

    def __init__(self, drawn: Continuations, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        super().__init__()
        self._drawn = drawn
        self._spawn = spawn
        self._marked = 0  # a member of the leaf that is marked
        self._growth = Growth(self._state, self._show)

    def compose(self) -> ComposeResult:
        """The tree of what they say, and how far they are."""
        with Vertical(classes="dialog -wide -high"):
            yield Static(
                Content(f"{DRAWN_N} continuations from token {self._drawn.at + 1}"), classes="dialog-title"
            )
            yield Static("", id="continuations-state")
            with VerticalScroll(id="continuations", can_focus=False):
                yield Static("", id="continuations-text")
            yield KeyWords(HINT)

    def begin(self) -> None:
        """Draw them, and watch them grow."""
        self.run_worker(self._drawn.draw(), group="continuations", exclusive=True)
        self._growth.watch(self)

    def _state(self) -> object:
        return self._drawn.tokens_n, self._drawn.ended, self._marked, self.size

    def _show(self, _: object) -> None:
        drawn = self._drawn
        told = f"token {drawn.tokens_n} of at most {MOST_TOKENS} …" if not drawn.ended else ""
        self.query_one("#continuations-state", Static).update(
            Content(clean(" ".join(filter(None, (drawn.error, drawn.note, told)))))
        )
        if drawn.candidates:
            self._show_tree(drawn.tree)

    def _show_tree(self, tree: Fork) -> None:
        widget = self.query_one("#continuations-text", Static)
        lines: list[Content] = []
        marked_line = 0
        for depth, fork in tree.rows():
            marked = not fork.forks and self._marked in fork.members
            marked_line = len(lines) if marked else marked_line
            head = Content.assemble(
                INDENT * depth,
                ("▶ " if marked else "  ", "bold $text-accent"),
                (f"{len(fork.members)} of {len(self._drawn.candidates)}  ", MUTED),
            )
            text = clean(fork.text).replace("\n", "⏎") or ("(ends here)" if depth else "(they part at once)")
            style = "reverse" if marked else "bold" if fork.forks else ""
            room = max(MIN_WIDTH, widget.size.width - head.cell_length)
            first, *rest = Content.assemble((text, style)).wrap(room)
            lines += [head + first, *(Content(" " * head.cell_length) + line for line in rest)]
        widget.update(Content("\n").join(lines))
        self.query_one("#continuations", VerticalScroll).scroll_to(y=marked_line - 2, animate=False)

    def action_choose(self, step: int) -> None:
        """Mark another way, `step` on; the first follows the last."""
        leaves = [fork for _, fork in self._drawn.tree.rows() if not fork.forks]
        now = next((place for place, fork in enumerate(leaves) if self._marked in fork.members), 0)
        if self._drawn.candidates:
            self._marked = leaves[(now + step) % len(leaves)].members[0]
        self._growth.look()

    def action_keep(self) -> None:
        """Close, and keep the way that is marked; nothing before there is one."""
        if self._drawn.tokens_n:
            work = self._drawn.keep(self._marked)
            self.dismiss(True)
            self._spawn(work)

    def action_close(self) -> None:
        """Close; nothing is kept."""
        self._drawn.leave()
        super().action_close()
