"""What the keys and the menu do with a message, and the walk from one message to the next."""

from __future__ import annotations

from collections.abc import Callable

from textual.binding import Binding
from textual.widget import Widget

from chat_app.chat.controller import ChatController
from chat_app.tui.home import Home
from chat_app.tui.key_words import key_name
from chat_app.tui.widgets.messages.list import MessageList
from chat_app.tui.widgets.messages.view import MessageView
from chat_app.tui.work import Work


class MessageActions:
    """`prompt` has the focus when a message is done with. `copy` takes a text, `edit` the id of a message."""

    def __init__(
        self,
        session: ChatController,
        messages: MessageList,
        prompt: Widget,
        work: Work,
        home: Home,
        *,
        copy: Callable[[str], None],
        edit: Callable[[str], None],
    ) -> None:
        self._session = session
        self._messages = messages
        self._prompt = prompt
        self._work = work
        self._home = home
        self._copy, self._edit = copy, edit

    def act(self, action: str, message_id: str) -> None:
        """Do one of the actions of `MessageView`. One for a message of another chat is dropped."""
        if message_id not in self._session.conversation:
            return
        branches = self._session.branches
        if action == "copy":
            self._copy(self._session.conversation.get(message_id).content)
        elif action == "edit":
            self._edit(message_id)
        elif action == "regenerate":
            self._prompt.focus()
            self._work.spawn(branches.regenerate(message_id))
        elif action == "continue":
            self._prompt.focus()
            self._work.spawn(branches.continue_reply(message_id))
        elif action == "think_on":
            self._prompt.focus()
            self._work.spawn(branches.think_on(message_id))
        elif action == "branch":
            branches.branch(message_id)
            self._prompt.focus()
        elif action == "inspect":
            self._home.inspect(message_id)
        else:
            shown = branches.switch_branch(message_id, -1 if action == "previous" else 1)
            if shown is not None:
                self._work.later(lambda: self._messages.focus_head(shown))

    def toggle_fold(self, focused: Widget | None) -> None:
        """Unfold or fold what the selected message has folded, else the newest thought, else the newest
        files."""
        views = [view for view in self._meant(focused) if view.fold.display]
        views.sort(key=lambda view: view.message.role != "assistant")
        if views:
            views[0].fold.toggle()
        else:
            self._session.view.note("There is no thought and no file to be shown.")

    def cut_loop(self, focused: Widget | None) -> None:
        """Cut the reply that is selected, else the newest, where it began to repeat itself; other tokens for
        that place are then offered."""
        replies = [view.message.id for view in self._meant(focused) if view.message.role == "assistant"]
        if replies:
            self._work.spawn(self._cut_loop(replies[0]))

    async def _cut_loop(self, message_id: str) -> None:
        cut = await self._session.branches.cut_loop(message_id)
        if cut is not None:
            self._home.inspect(*cut)

    def _meant(self, focused: Widget | None) -> list[MessageView]:
        """The messages that a key without a place may mean: the selected one, else all, the newest first."""
        return [focused] if isinstance(focused, MessageView) else self._messages.views()[::-1]

    def open_menu(self, message_id: str) -> None:
        """The actions that mean something for a message, to choose from, each with its key."""
        from chat_app.tui.screens.message_menu import MessageMenu

        app, view = self._messages.app, self._messages.view_of(message_id)
        actions = {
            binding.action[len("act('") : -len("')")]: binding
            for binding in MessageView.BINDINGS
            if isinstance(binding, Binding) and binding.action.startswith("act(")
        }
        rows = [
            (action, binding.tooltip or binding.description, key_name(app, binding))
            for action, binding in actions.items()
            if view is not None and view.takes(action)
        ]

        def chosen(action: str | None) -> None:
            if action:
                self.act(action, message_id)

        app.push_screen(MessageMenu(rows), chosen)

    def select(self, step: int, focused: Widget | None) -> None:
        """Focus the message `step` places on from the one `focused`; beyond the last is the prompt."""
        views = self._messages.views()
        if not views:
            return
        if isinstance(focused, MessageView) and focused in views:
            place = views.index(focused) + step
        else:
            place = len(views) - 1 if step < 0 else len(views)
        if place >= len(views):
            if not self._messages.has_later:
                self._prompt.focus()
                return
            self._work.later(lambda: self._messages.load(1))
        elif place < 0:
            self._work.later(lambda: self._messages.load(-1))
        views[min(max(0, place), len(views) - 1)].focus()
