"""What stands above a chat: its title and whether the model is ready, and in an empty one the welcome."""

from __future__ import annotations

from chat_app.chat.controller import ChatController
from chat_app.config.endpoints import Endpoint, model_label
from chat_app.text.formatting import load_label
from chat_app.tui.home import Home
from chat_app.tui.terminal.title import title_of
from chat_app.tui.widgets.status import TitleBar
from chat_app.tui.widgets.welcome import Welcome


class Heading:
    """`title` and `welcome` are the widgets."""

    def __init__(self, session: ChatController, home: Home) -> None:
        self._session = session
        self._home = home
        self.title = TitleBar(id="title-bar")
        self.welcome = Welcome(id="welcome")

    def show(self) -> None:
        """Draw what there is now."""
        session, info, loading = self._session, self._session.model.info, self._session.model.loading
        model = info.name if info else loading.name if loading else model_label(session.settings.model)
        host = info.host if info else loading.host if isinstance(loading, Endpoint) else ""
        state, style = self._state()
        grammar = session.settings.params.grammar
        held = grammar.kind if grammar is not None else ""
        self.title.show(session.conversation.title, model, state, style, host=host, held=held)
        self._home.name_window(title_of(session.conversation.title, writing=session.generating))
        self.welcome.display = not session.path()
        if self.welcome.display:
            self.welcome.show(info, self._home.model_state(state), self._home.offer)

    def _state(self) -> tuple[str, str]:
        """(the model's state in a word or two, its colour)."""
        session = self._session
        if session.model.loading is not None:
            shot = session.metrics.snapshot()
            return load_label(shot.load_stage, shot.load_fraction), "$text-warning"
        if session.model.info is None:
            return "no model", "$text-error"
        return ("writing", "$text-accent") if session.generating else ("ready", "$text-success")
