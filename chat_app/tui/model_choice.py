"""Finding, fetching, choosing and loading models. Nothing here opens by itself: it would take the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from chat_app.config.endpoints import EndpointError
from chat_app.engines.base import Source
from chat_app.engines.sources import find_source
from chat_app.text.errors import describe_error
from chat_app.text.sanitize import clean_line
from chat_app.tui.widgets.fetch_row import FetchRow
from chat_app.tui.work import Work

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController
    from chat_app.config.settings import Settings
    from chat_app.models.offer import Offer

FindOffer = Callable[[], "Offer | None"]
CheckModel = Callable[[Path, "Settings"], object]


def check_file(path: Path, settings: Settings) -> None:
    """Read what a model's file says of itself; raises what loading it would raise for that."""
    from llama_core.loaders import open_checkpoint

    open_checkpoint(path, settings.tokenizer)


def find_best_offer() -> Offer | None:
    """A better model for this machine than the first; None where there is none."""
    from chat_app.models.offer import best_offer

    return best_offer()


class ModelChoice:
    """Nothing here waits on the screen's thread for the disk or the network. `changed` is called when what
    `state` says may be another."""

    def __init__(
        self,
        app: App[int],
        session: ChatController,
        work: Work,
        changed: Callable[[], None],
        fetch_row: FetchRow,
        check: CheckModel = check_file,
        find_offer: FindOffer = find_best_offer,
    ) -> None:
        self._app = app
        self._session = session
        self._work = work
        self._changed = changed
        self._fetch_row = fetch_row
        self._check = check
        self._note = ""  # why there is no model
        self._told_to_wait = False
        self._find_offer = find_offer
        self._looked_for_offer = False
        self._offer: Offer | None = None

    def state(self, state: str) -> str:
        """What an empty chat says while no model is loaded."""
        if self._session.model.loading is not None:
            return f"{state} (first start only) …" if "kernels" in state else f"{state} …"
        if self._fetch_row.running:
            return "The model is being fetched. What you send meanwhile is answered once it is here."
        return self._note or "Looking for the model …"

    def tell_waiting(self) -> None:
        """Where a prompt waits for a model that nobody is loading, say once how to get one."""
        session = self._session
        if not session.queue or session.model.info is not None or session.model.loading is not None:
            self._told_to_wait = False
        elif self._note and not (self._told_to_wait or self._fetch_row.running):
            self._told_to_wait = True
            session.view.note(
                "Your prompt waits: there is no model. /model fetches one or opens a file that you have.",
                "warning",
            )

    def find(self, name: str, refused: Callable[[], object] = lambda: None) -> None:
        """Load the model of that name or path; fetch it where it is not here. What stands in the way is said,
        and `refused` called: the model that is loaded stays."""
        self._app.run_worker(self._work.guard(self._find(name, refused)), group="model", exclusive=True)

    async def _find(self, name: str, refused: Callable[[], object]) -> None:
        from chat_app.models.catalogue import ModelNotFound

        try:
            source = await asyncio.to_thread(find_source, name, self._session.settings.engines)
        except ModelNotFound as error:
            if error.can_pull:
                await self._fetch(error.name)
                return
            self._without(str(error))
            refused()
            return
        except (EndpointError, OSError) as error:
            self._without(describe_error(error))
            refused()
            return
        if self._session.model.info is not None and isinstance(source, Path):
            # The model there is goes when the next one is loaded, so first a look at the file.
            try:
                await asyncio.to_thread(self._check, source, self._session.settings)
            except Exception as error:  # noqa: BLE001 - whatever a file can provoke belongs on the screen
                self._without(describe_error(error))
                refused()
                return
        self._load(source, name)

    def _load(self, source: Source, name: str) -> None:
        self._session.settings = replace(self._session.settings, model=name)
        self._note = ""
        self._session.load_model(source)

    async def _fetch(self, name: str) -> None:
        self._app.call_later(self._changed)  # it runs by then
        try:
            path = await self._fetch_row.fetch(name)
        except Exception as error:  # noqa: BLE001 - network, disk, pip: whatever it is, the app stays open
            known = clean_line(name)
            again = f"/model {known} tries again, /model opens another."
            self._without(f"{describe_error(error)}\n{again} Outside the app: llama-chat models pull {known}")
            return
        self._load(path, name)

    @property
    def offer(self) -> Offer | None:
        """A better model, while the first one is loaded; looked for when it is asked for the first time."""
        from chat_app.models.offer import is_first_model

        info = self._session.model.info
        if info is None or not is_first_model(info.path):
            return None
        if not self._looked_for_offer:
            self._looked_for_offer = True
            self._app.run_worker(self._work.guard(self._look_for_offer()), group="offer")
        return self._offer

    async def _look_for_offer(self) -> None:
        self._offer = await asyncio.to_thread(self._find_offer)
        self._changed()

    def take_offer(self) -> None:
        """Use the model on offer; it is fetched where it is not here."""
        if self._offer is not None:
            self.find(self._offer.name)

    def _without(self, text: str) -> None:
        """Say why there is no model, or not the one asked for."""
        self._note = text
        self._session.view.note(text, "error")
        self._changed()

    def failed(self, source: Source, text: str, instead: Source | None) -> None:
        """A file that cannot be loaded: say why, and what is loaded instead or how another is chosen."""
        why = text.rstrip().removesuffix(".")
        then = "/model chooses another" if instead is None else f"{clean_line(instead.name)} is loaded again"
        self._without(f"{clean_line(source.name)} could not be loaded. {why}. {then}.")

    def choose(self) -> None:
        """Show what there is."""
        from chat_app.tui.screens.choose_model import ChooseModelScreen

        def chosen(name: str | None) -> None:
            if name:
                self.find(name)

        if not isinstance(self._app.screen, ChooseModelScreen):
            self._app.push_screen(ChooseModelScreen(self._session.settings.engines), chosen)
