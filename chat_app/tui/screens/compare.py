"""Two answers to one question side by side, aligned where they part; one of them becomes the branch."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.comparing.comparisons import Comparisons
from chat_app.chat.comparing.told import NAMES, facts_of, parting
from chat_app.text.sanitize import clean, clean_line
from chat_app.tui.growth import Growth
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.widgets.token_line import MUTED, Part

HINT = (
    "{compare.first} {compare.second} choose · {compare.keep} keeps it as the branch · "
    "{compare.both} keeps both · {compare.up} {compare.down} scroll · {dialog.close} stops, then closes"
)


class Pane(VerticalScroll, can_focus=False):
    """One side: what it is, what it does, and what it says."""

    def __init__(self, place: int) -> None:
        super().__init__(classes="compare-pane")
        self._place = place
        self._head = Static("", classes="compare-head")
        self._text = Static("", classes="compare-text")

    def compose(self) -> ComposeResult:
        """The head above the text."""
        yield self._head
        yield self._text

    def show(self, comparison: Comparison, *, chosen: bool) -> None:
        """Draw it as it is now: what both say muted, and where they part marked."""
        one = comparison.contenders[self._place]
        self.set_class(chosen, "-chosen")
        title = f"{'▶ ' if chosen else '  '}{NAMES[self._place]}  {clean_line(one.side.label)}"
        self._head.update(
            Content.assemble((title, "bold $text-primary"), "\n", (f"  {facts_of(one)}", MUTED))
        )
        said = comparison.answers[self._place]
        parted = comparison.difference()
        at = len(said) if parted is None else parted.places[self._place]
        at = len(said) if at is None else at
        parts: list[Part] = [
            (clean("".join(piece.text for piece in said[:at])), MUTED if parted is not None else ""),
            (clean("".join(piece.text for piece in said[at : at + 1])).replace("\n", "⏎\n"), "reverse bold"),
            clean("".join(piece.text for piece in said[at + 1 :])),
        ]
        if one.error:
            parts.append((("\n" if said else "") + clean(one.error), "$text-error"))
        self._text.update(Content.assemble(*parts))


class CompareScreen(Dialog[None]):
    """Left and Right choose a side, Enter keeps it; Esc stops what is written, and closes when nothing is.
    spawn: runs work that goes on when this screen has gone."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares it so
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(0)", "The first", id="compare.first"),
        Binding("right", "choose(1)", "The second", id="compare.second"),
        Binding("enter", "keep", "Keep it as the branch", id="compare.keep"),
        Binding("b", "keep_both", "Keep both", id="compare.both"),
        Binding("up", "scroll(-1)", "Scroll up", id="compare.up"),
        Binding("down", "scroll(1)", "Scroll down", id="compare.down"),
    ]

    def __init__(
        self,
        comparison: Comparison,
        comparisons: Comparisons,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        super().__init__()
        self._comparison = comparison
        self._comparisons = comparisons
        self._spawn = spawn
        self._chosen = 0
        self._panes = (Pane(0), Pane(1))
        self._growth = Growth(self._state, self._show)

    def compose(self) -> ComposeResult:
        """The question, both answers, and where they part."""
        with Vertical(classes="dialog -wide -high", id="compare"):
            yield Static(Content(clean_line(self._comparison.question.content, 200)), classes="dialog-title")
            with Container(id="compare-panes"):
                yield from self._panes
            yield Static("", id="compare-parting")
            yield KeyWords(HINT)

    def begin(self) -> None:
        """Let both answer, and watch them grow."""
        self._comparisons.open = True
        self._spawn(self._comparison.run())
        self._growth.watch(self)

    def _state(self) -> object:
        comparison = self._comparison
        told = [one.state for one in comparison.contenders]
        return [len(said) for said in comparison.answers], told, comparison.ended, self._chosen, self.size

    def _show(self, _: object) -> None:
        comparison = self._comparison
        for place, pane in enumerate(self._panes):
            pane.show(comparison, chosen=place == self._chosen)
        self.query_one("#compare-parting", Static).update(Content(clean(parting(comparison))))

    def action_choose(self, place: int) -> None:
        """Choose a side."""
        self._chosen = place
        self._growth.look()

    def action_scroll(self, step: int) -> None:
        """Scroll both, so that what is side by side stays so."""
        for pane in self._panes:
            pane.scroll_relative(y=step, animate=False)

    def action_keep(self) -> None:
        """Close, and keep the chosen side, as far as it has come."""
        self._keep([self._chosen])

    def action_keep_both(self) -> None:
        """Close, and keep both; the chosen one is the branch that is shown."""
        self._keep([1 - self._chosen, self._chosen])

    def _keep(self, places: list[int]) -> None:
        kept = [place for place in places if self._comparison.answers[place]]
        if not kept:
            self.notify("There is nothing of it yet that could be kept.", markup=False)
            return
        self._comparisons.open = False
        self.dismiss(None)
        self._spawn(self._comparison.keep(*kept))

    def action_close(self) -> None:
        """Stop what is written; what is there stays to be chosen from. Where nothing is written, close: the
        chat is as it was, and what was said can still be kept by a command."""
        comparison = self._comparison
        if not comparison.ended:
            comparison.stop()
            return
        self._comparisons.open = False
        comparison.leave()
        self.dismiss(None)
        if any(comparison.answers):
            self.app.notify("The chat is as it was; /keep 1 or /keep 2 still keeps one.", markup=False)
