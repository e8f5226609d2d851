"""The chat screen as the host of the slash commands."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chat_app.chat.view import Severity

if TYPE_CHECKING:
    from chat_app.chat.comparing.comparison import Comparison
    from chat_app.chat.controller import ChatController
    from chat_app.tui.model_choice import ModelChoice
    from chat_app.tui.screens.chat import ChatScreen


class CommandApp(Protocol):
    """What the commands ask of the app."""

    theme: str

    @property
    def available_themes(self) -> Mapping[str, object]:
        """Themes by name."""

    @property
    def models(self) -> ModelChoice:
        """What finds, fetches and loads models."""

    def show_text(self, title: str, text: str) -> None:
        """Open a screen with a text to read."""

    def show_comparison(self, comparison: Comparison) -> None:
        """Let both sides answer on a screen of their own, where one can be kept."""

    def action_help(self) -> None:
        """Show keys and commands, unless they are shown."""

    def leave(self) -> None:
        """Save and end."""

    def export_chat(self, target: str) -> None:
        """Write the chat to a file; "" is Markdown under its title, in the current folder."""

    def inspect(self, message_id: str) -> None:
        """Open the token inspector on a reply, by its id."""

    async def show_tokens(self, text: str) -> None:
        """Show how the model splits a text."""

    def show_history(self, query: str) -> None:
        """Open the list of chats with a search for `query`."""

    def action_settings(self) -> None:
        """Show all parameters, unless they are shown."""

    def search_themes(self) -> None:
        """Open the palette with the themes; Textual's own."""


class CommandHost:
    """What the commands may do here (`commands.ScreenHost`)."""

    fixed: frozenset[str] = frozenset()  # another size of the context loads the model anew

    def __init__(self, app: CommandApp, screen: ChatScreen) -> None:
        self._app = app
        self._screen = screen

    @property
    def session(self) -> ChatController:
        """The controller of the chat on the screen."""
        return self._screen.session

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence in the row above the prompt."""
        self._screen.note(text, severity)

    def attach(self, names: Sequence[str]) -> None:
        """The files are mentioned in the prompt, where one sees them and can take them out."""
        self._screen.composer.mention(names)

    def show_text(self, title: str, text: str) -> None:
        """The text gets a screen of its own."""
        self._app.show_text(title, text)

    async def show_comparison(self, comparison: Comparison) -> None:
        """Side by side, on a screen of their own."""
        self._app.show_comparison(comparison)

    def show_help(self) -> None:
        """Keys and commands on a screen of their own."""
        self._app.action_help()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine as a worker of the screen; what goes wrong in it becomes a note."""
        self._screen.work.spawn(work)

    def leave(self) -> None:
        """Save and end the app."""
        self._app.leave()

    def use_model(self, name: str) -> None:
        """Load a model by name or path; one that is not here is fetched. A name that is none comes back."""
        self._app.models.find(name, lambda: self._screen.prompt.offer_again(f"/model {name}"))

    def choose_model(self) -> None:
        """Open the list of models."""
        self._app.models.choose()

    def export(self, target: str) -> None:
        """Write the chat to a file; "" is Markdown under its title, in the current folder."""
        self._app.export_chat(target)

    def copy(self, text: str) -> None:
        """Put a text on the clipboard."""
        self._screen.copy(text)

    def edit(self, message_id: str) -> None:
        """Put a message of the user into the prompt box; what is sent then is a new branch."""
        self._screen.begin_edit(message_id)

    def inspect(self, message_id: str) -> None:
        """Open the token inspector on a reply, by its id."""
        self._app.inspect(message_id)

    async def show_tokens(self, text: str) -> None:
        """Show how the model splits a text."""
        await self._app.show_tokens(text)

    def show_history(self, query: str) -> None:
        """Open the list of chats with a search for `query`."""
        self._app.show_history(query)

    def find(self, text: str | None) -> None:
        """Find a text in the chat on the screen."""
        self._screen.find(text)

    def show_settings(self) -> None:
        """All parameters on a screen of their own."""
        self._app.action_settings()

    def choose_theme(self) -> None:
        """Open the palette with the themes."""
        self._app.search_themes()

    def themes(self) -> Iterable[str]:
        """All that Textual has and the app's own."""
        return self._app.available_themes

    def use_theme(self, name: str) -> None:
        """Change the colours at once; the choice is kept for the next start."""
        self._app.theme = name
