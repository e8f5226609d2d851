"""Ctrl+C, one step a press: it copies, stops, clears, and quits last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from chat_app.tui.key_words import with_keys
from chat_app.tui.widgets.composer import Composer

QUIT_WINDOW_S = 2.0


class Interrupt:
    """What a press does depends on what there is, and for the last step on the press before.

    copy, note: for a selection, and for a word to the user; stop: stops what runs, and says whether anything
    did; leave: ends the app; clock: in seconds.
    """

    def __init__(
        self,
        screen: Screen[Any],
        composer: Composer,
        copy: Callable[[str], None],
        note: Callable[[str], None],
        stop: Callable[[], bool],
        leave: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self._screen, self._composer = screen, composer
        self._copy, self._note = copy, note
        self._stop, self._leave, self._clock = stop, leave, clock
        self._quit_until = 0.0

    def step(self) -> None:
        """Copies a selection, else stops, else clears the prompt, else quits on the second press."""
        screen, prompt = self._screen, self._composer.prompt
        selected = prompt.selected_text or screen.get_selected_text()
        if selected:
            self._copy(selected)
            screen.clear_selection()
            return
        if self._stop():
            return
        if prompt.text:
            self._composer.put_aside()
            self._note(with_keys(prompt, "The prompt is cleared; {prompt.older} brings it back."))
            return
        now = self._clock()
        if now < self._quit_until:
            self._leave()
            return
        self._quit_until = now + QUIT_WINDOW_S
        self._note(with_keys(prompt, "Press {chat.interrupt} again to quit."))
