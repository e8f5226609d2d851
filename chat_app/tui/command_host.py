"""The chat screen as the host of the slash commands."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from chat_app.chat.view import Severity

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController
    from chat_app.tui.model_choice import ModelChoice
    from chat_app.tui.screens.chat import ChatScreen


class CommandApp(Protocol):
    """What the commands ask of the app."""

    theme: str

    @property
    def available_themes(self) -> Mapping[str, object]: ...
    @property
    def models(self) -> ModelChoice: ...
    def show_text(self, title: str, text: str) -> None: ...
    def action_help(self) -> None: ...
    def leave(self) -> None: ...
    def export_chat(self, target: str) -> None: ...
    def inspect(self, message_id: str) -> None: ...
    async def show_tokens(self, text: str) -> None: ...
    def show_history(self, query: str) -> None: ...
    def action_settings(self) -> None: ...
    def search_themes(self) -> None: ...


class CommandHost:
    """What the commands may do here (`commands.ScreenHost`)."""

    fixed: frozenset[str] = frozenset()  # another size of the context loads the model anew

    def __init__(self, app: CommandApp, screen: ChatScreen) -> None:
        self._app = app
        self._screen = screen

    @property
    def session(self) -> ChatController:
        return self._screen.session

    def note(self, text: str, severity: Severity = "information") -> None:
        self._screen.note(text, severity)

    def show_text(self, title: str, text: str) -> None:
        self._app.show_text(title, text)

    def show_help(self) -> None:
        self._app.action_help()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._screen.work.spawn(work)

    def leave(self) -> None:
        self._app.leave()

    def use_model(self, name: str) -> None:
        self._app.models.find(name)

    def choose_model(self) -> None:
        self._app.models.choose()

    def export(self, target: str) -> None:
        self._app.export_chat(target)

    def copy(self, text: str) -> None:
        self._screen.copy(text)

    def edit(self, message_id: str) -> None:
        self._screen.begin_edit(message_id)

    def inspect(self, message_id: str) -> None:
        self._app.inspect(message_id)

    async def show_tokens(self, text: str) -> None:
        await self._app.show_tokens(text)

    def show_history(self, query: str) -> None:
        self._app.show_history(query)

    def show_settings(self) -> None:
        self._app.action_settings()

    def choose_theme(self) -> None:
        self._app.search_themes()

    def themes(self) -> Iterable[str]:
        return self._app.available_themes

    def use_theme(self, name: str) -> None:
        self._app.theme = name
