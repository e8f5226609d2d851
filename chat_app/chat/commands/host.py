"""Who runs a slash command: the screen, or the line chat; and what several commands ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chat_app.attachments.mentions import offers_of_path
from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.conversation import Message
from chat_app.chat.view import Severity

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController


class Host(Protocol):
    """What every command may use. Texts are from outside: the host makes them inert."""

    @property
    def session(self) -> ChatController:
        """The controller of the chat that the command acts on."""

    def note(self, text: str, severity: Severity = "information") -> None:
        """A sentence for the user."""

    def show_text(self, title: str, text: str) -> None:
        """Something to read."""

    def show_help(self) -> None:
        """All commands, and keys where there are any."""

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the caller; what goes wrong in it is told."""

    def leave(self) -> None:
        """End; the chat can be resumed."""

    def attach(self, names: Sequence[str]) -> Awaitable[None] | None:
        """Let these files go with the next prompt. Raises AttachmentError."""

    def show_comparison(self, comparison: Comparison) -> Awaitable[None]:
        """Let both sides answer, and show them; where there is a screen, one can be kept there."""

    @property
    def fixed(self) -> Collection[str]:
        """Parameters that cannot be changed here while the model is loaded."""


class ScreenHost(Host, Protocol):
    """What commands that need a screen use beside that."""

    def use_model(self, name: str) -> None:
        """Load a model by name or path; one that is not here is offered to be fetched."""

    def export(self, target: str) -> None:
        """Write the chat to a file, its format chosen by the ending; "" is Markdown under its title."""

    def copy(self, text: str) -> None:
        """Put a text on the clipboard."""

    def edit(self, message_id: str) -> None:
        """Put a message of the user into the prompt box; what is sent then is a new branch."""

    def inspect(self, message_id: str) -> None:
        """Look into the tokens of a reply, by its id."""

    def show_tokens(self, text: str) -> Awaitable[None]:
        """Show how the model splits a text."""

    def show_history(self, query: str) -> None:
        """Open the list of chats with a search for `query`; "" shows all."""

    def find(self, text: str | None) -> None:
        """Mark a text in this chat and go from place to place; None asks for it."""

    def show_settings(self) -> None:
        """Open all parameters on one screen."""

    def choose_model(self) -> None:
        """Open the list of models."""

    def choose_theme(self) -> None:
        """Open the list of themes."""

    def themes(self) -> Iterable[str]:
        """What `use_theme` takes."""

    def use_theme(self, name: str) -> None:
        """Change the colours; the choice is kept for the next start."""


def offer_models(host: Host, typed: str) -> list[tuple[str, str]]:
    """What `typed` may become, each with what it is: the name of an engine of config.toml or of a model that
    was downloaded; a file or folder where it begins as a path."""
    if typed.startswith(("/", "~", ".", '"')):
        return [(word.rstrip(), about) for word, about in offers_of_path(typed)]  # nothing need follow
    from chat_app.models.catalogue import downloaded_names  # not before one types a model's name

    engines = [(name, f"remote, {one.host}") for name, one in host.session.settings.engines.items()]
    here = [(name, "on this machine") for name in downloaded_names()]
    return [row for row in engines + here if row[0].startswith(typed)]


def unquoted(name: str) -> str:
    """A path as it is meant: the completion puts one with blanks into quotation marks."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == '"' else name


def last(host: Host, role: str) -> Message | None:
    """The newest message of a role on the path."""
    return next((one for one in reversed(host.session.path()) if one.role == role), None)


def last_reply(host: Host) -> Message:
    """Raises ValueError with a sentence where there is none."""
    message = last(host, "assistant")
    if message is None:
        raise ValueError("There is no reply yet.")
    return message


def read_number(text: str) -> int:
    """A number from 1 up. Raises ValueError with a phrase."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is no number from 1 up")
    return int(text)
