"""The app's dealings with its terminal: what comes from it, and a stop that reaches the shell."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

from textual import on
from textual.app import App
from textual.driver import Driver
from textual.events import Event, Key, Paste
from textual.filter import LineFilter
from textual.widgets import Input, TextArea

from chat_app.text.sanitize import clean, clean_pasted
from chat_app.tui.contrast import ReadableText
from chat_app.tui.textual_private import can_suspend, dispatch_key, driver_of, is_ending
from chat_app.tui.widgets.prompt import PromptArea

T = TypeVar("T")


class TerminalApp(App[int]):
    """Base of the app: pastes are no keys, keys wait for their screen, stray keys reach the prompt, text is
    readable, the whole job stops."""

    def __init__(self) -> None:
        super().__init__()
        self._early: list[Key | Paste] = []
        self._readable = ReadableText(self._own_dark)

    def _own_dark(self) -> bool | None:
        theme = self.current_theme
        return theme.dark if theme.ansi else None

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and behind them the one that keeps text readable in every theme."""
        return [*super().get_line_filters(), self._readable]

    def get_driver_class(self) -> type[Driver]:
        """Textual's driver; on Linux and macOS the one that keeps pastes from acting as keys."""
        driver = super().get_driver_class()
        if driver.__name__ != "LinuxDriver":  # Windows, or one that the user chose
            return driver
        from chat_app.tui.terminal.input import GuardedDriver

        return GuardedDriver

    def ask_background(self) -> None:
        """Ask the terminal whether it is light or dark, where the driver can: BackgroundTold answers."""
        ask = getattr(driver_of(self), "ask_background", None)  # GuardedDriver's
        if ask is not None:
            ask()

    async def on_event(self, event: Event) -> None:
        """A paste is made inert before any widget sees it, the command palette's own box included. What is
        typed before a screen has its widgets waits for them: Textual would drop it."""
        if isinstance(event, Key | Paste) and not event.is_forwarded:
            if isinstance(event, Paste):
                event.text = clean_pasted(event.text)
            if self._early or not self.screen.is_mounted:
                self._early.append(event)
                # A screen looks at its own queue once it is mounted; and what the app queues then comes after
                # every key that is under way.
                self.screen.call_later(self.call_later, self._give_early)
                return
        await super().on_event(event)

    async def _give_early(self) -> None:
        """In the order of typing. A key may open a screen that the keys after it must wait for again."""
        early, self._early = self._early, []
        for event in early:
            await self.on_event(event)

    def _handle_exception(self, error: Exception) -> None:
        """An app that is ending mounts nothing more: a screen that was just opened, Textual's own palette
        included, has none of its widgets when its handlers look for them. The user has left already."""
        if is_ending(self):
            logging.getLogger(__name__).info("an error while the app ended", exc_info=error)
        else:
            super()._handle_exception(error)

    @property
    def clipboard(self) -> str:
        """What Ctrl+V inserts: as inert as a paste."""
        return clean(super().clipboard)

    def action_suspend_process(self) -> None:
        """Stop the whole job: a launcher (`uv run`) that stayed in the foreground would keep the terminal."""
        if can_suspend(self):
            self._suspend_signal()
            os.killpg(0, signal.SIGTSTP)

    @on(Driver.SignalResume)
    def draw_again(self) -> None:
        """Back from a stop: the terminal shows the shell, and Textual would draw only what has changed."""
        self.refresh(layout=True)

    async def _on_key(self, event: Key) -> None:
        """What no binding answers, typed on a selected message, goes to the prompt."""
        event.prevent_default()
        if await self._check_bindings(event.key):
            return
        if not isinstance(self.focused, TextArea | Input):
            for prompt in self.screen.query(PromptArea):
                if prompt.take_key(event):
                    return
        await dispatch_key(self, event)


async def while_suspended(app: App[Any], work: Awaitable[T]) -> T:
    """Wait for `work` with the terminal given away. It comes back whatever happens: Textual's `suspend` would
    leave it away when something is raised inside. Raises what `work` raises, or SuspendNotSupported."""
    result: T | None = None
    failure: BaseException | None = None
    with app.batch_update(), app.suspend():
        try:
            result = await work
        except BaseException as error:  # noqa: BLE001 - raised again below, a cancellation too
            failure = error
    if failure is not None:
        raise failure
    return cast("T", result)
