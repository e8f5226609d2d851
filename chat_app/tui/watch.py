"""`serve --watch`: requests, rates, the batch and its memory, live in the terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Footer, Sparkline, Static

from chat_app.text.formatting import mib
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.serve.worker import Load

PERIOD_S = 0.5
HISTORY = 120


class WatchApp(App[None]):
    """Reads the worker's numbers twice a second. Leaving it ends the server."""

    TITLE = "llama-chat serve"
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Stop the server"), ("ctrl+c", "quit", "Stop")]
    CSS = """
    Vertical { padding: 1 2; }
    Sparkline { height: 4; margin: 1 0; }
    #title { text-style: bold; }
    """

    def __init__(self, load: Callable[[], Load], address: str, model_name: str) -> None:
        super().__init__()
        self._load = load
        self._title = f"{clean_line(model_name)} at {address}"
        self._rates: deque[float] = deque([0.0] * 2, maxlen=HISTORY)

    def compose(self) -> ComposeResult:
        """A title, the rates of the last minute, the numbers."""
        with Vertical():
            yield Static(Content(self._title), id="title")
            yield Sparkline(list(self._rates), id="rates")
            yield Static(id="numbers")
        yield Footer()

    def on_mount(self) -> None:
        """Show the numbers at once, then again and again."""
        self.refresh_numbers()
        self.set_interval(PERIOD_S, self.refresh_numbers)

    def refresh_numbers(self) -> None:
        """Draw what the worker says now."""
        now = self._load()
        self._rates.append(now.tokens_per_s)
        self.query_one("#rates", Sparkline).data = list(self._rates)
        self.query_one("#numbers", Static).update(Content("\n".join(lines_of(now))))


def lines_of(load: Load) -> list[str]:
    """The numbers as people read them."""
    known = f"{load.reused_tokens / load.prompt_tokens:.0%}" if load.prompt_tokens else "none"
    return [
        f"writing          {load.tokens_per_s:,.0f} tok/s",
        f"running          {load.running}, {load.waiting} waiting",
        f"requests         {load.requests:,} since the start, {load.uptime_s:,.0f} s ago",
        f"prompts          {load.prompt_tokens:,} tokens, {known} of them known already",
        f"replies          {load.drawn_tokens:,} tokens",
        f"keys and values  {mib(load.kv_bytes)} MiB running, {mib(load.prefix_bytes)} MiB kept for later",
    ]
