"""The part of the app that finds, fetches, chooses and loads models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from chat_app.tui.screens.chat import ChatScreen


def check_file(path: Path, settings: Settings) -> None:
    """Read what a model's file says of itself; raises what loading it would raise for that."""
    from llama_core.loaders import open_checkpoint

    open_checkpoint(path, settings.tokenizer)


class AppModels(App[int]):
    """Base of the app. Nothing here waits on the screen's thread for the disk or the network."""

    chat: ChatScreen
    check_model: Callable[[Path, Settings], object]
    _model_note = ""

    def model_state(self, state: str) -> str:
        """What an empty chat says while no model is loaded."""
        if self.chat.session.loading is not None:
            return f"{state} (first start only) …" if "kernels" in state else f"{state} …"
        return self._model_note or "Looking for the model …"

    @property
    def looks_for_model(self) -> bool:
        """Whether it is not yet known that there is none."""
        return not self._model_note

    def find_model(self, name: str) -> None:
        """Load the model of that name or path; offer to fetch it where it is not here."""
        self.run_worker(self.chat.guarded(self._find_model(name)), group="model", exclusive=True)

    use_model = find_model

    async def _find_model(self, name: str) -> None:
        from chat_app.models.catalogue import ModelNotFound, resolve_model

        try:
            path = await asyncio.to_thread(resolve_model, name)
        except ModelNotFound as error:
            self._without_model(str(error))
            if error.can_pull:
                await self._fetch(error.name)
            else:
                self.choose_model(str(error))
            return
        except OSError as error:
            self._without_model(describe_error(error))
            return
        if self.chat.session.info is not None:
            # The model there is goes when the next one is loaded, so first a look at the file.
            try:
                await asyncio.to_thread(self.check_model, path, self.chat.session.settings)
            except Exception as error:  # noqa: BLE001 - whatever a file can provoke belongs on the screen
                self.choose_model(describe_error(error))
                return
        self._load(path, name)

    def _load(self, path: Path, name: str) -> None:
        session = self.chat.session
        session.settings = replace(session.settings, model=name)
        self._model_note = ""
        session.load_model(path)

    async def _fetch(self, name: str) -> None:
        from chat_app.tui.screens.fetch_model import FetchScreen

        path = await self.push_screen_wait(FetchScreen(name))
        if path is not None:
            self._load(path, name)
        elif self.chat.session.info is None:
            self._without_model(
                "There is no model yet, so nothing can answer. /model fetches one or opens a file that you "
                f"have. Outside the app: llama-chat models pull {clean_line(name)}"
            )

    def _without_model(self, text: str) -> None:
        self._model_note = text
        self.chat.show_state()

    def model_failed(self, path: Path, text: str) -> None:
        """A file that cannot be loaded: say why, let another be chosen."""
        self._without_model(f"{clean_line(path.name)} could not be loaded. /model chooses another.")
        self.choose_model(text)

    def choose_model(self, problem: str = "") -> None:
        from chat_app.tui.screens.choose_model import ChooseModelScreen

        def chosen(name: str | None) -> None:
            if name:
                self.find_model(name)

        if not isinstance(self.screen, ChooseModelScreen):
            self.push_screen(ChooseModelScreen(problem), chosen)
