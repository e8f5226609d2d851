"""The conversation as it is drawn: what the session tells of its messages, put into the list in order."""

from __future__ import annotations

from chat_app.chat.controller import ChatController
from chat_app.chat.conversation import Message
from chat_app.chat.finding import Hit
from chat_app.chat.token_scores import scored_text
from chat_app.tui.widgets.messages.list import MessageList
from chat_app.tui.widgets.messages.tint import LEGEND
from chat_app.tui.widgets.messages.view import MessageView
from chat_app.tui.work import Work


class DrawnConversation:
    """`messages` is the widget. All that is drawn waits its turn in `work`."""

    def __init__(self, session: ChatController, work: Work) -> None:
        self._session = session
        self._work = work
        self._sought = ""  # what the user looks for, and the place they are at
        self._hit: Hit | None = None
        self.tinted = False  # replies show how sure the model was of each word
        self._timed = False  # messages show when they were written
        self.messages = MessageList(self._make_view, id="messages")

    def show_path(self) -> None:
        """Draw the path to the tip, of another chat or branch."""
        path = self._session.path()
        self._work.later(lambda: self.messages.show_path(path))
        self.refresh()

    def add(self, message: Message) -> None:
        """Draw a message at the end, or a reply that grows again."""
        self._work.later(lambda: self.messages.add(message))
        self.refresh()
        if message.role == "user":
            self.messages.anchor()

    def settle(self, message: Message) -> None:
        """The message has its last state."""

        async def settle() -> None:
            view = self.messages.view_of(message.id)
            if view is not None:
                view.settle(message, saved=message.id not in self._unsaved())

        self._work.later(settle)
        self.refresh()

    def add_text(self, message_id: str, text: str) -> None:
        """More of a reply that grows."""

        async def add() -> None:
            view = self.messages.view_of(message_id)
            if view is not None:
                view.add_text(text)

        self._work.later(add)

    def add_thought(self, message_id: str, text: str, tokens: int, seconds: float) -> None:
        """More of a reply's thought."""

        async def add() -> None:
            view = self.messages.view_of(message_id)
            if view is not None:
                view.add_thought(text, tokens, seconds)

        self._work.later(add)

    def toggle_tint(self) -> None:
        """Tint the replies by how probable the model held their words, or show them as before."""
        session = self._session
        if not any(map(scored_text, session.path())):
            session.view.note(
                "No reply of this chat can be tinted: probabilities are kept with replies written here."
            )
            return
        self.tinted = not self.tinted
        self.refresh()
        if self.tinted:
            session.view.note(f"Tinted by probability: {LEGEND}.")

    def show_sought(self, text: str, hit: Hit | None) -> None:
        """Mark what the user looks for; "" marks nothing."""
        self._sought, self._hit = text, hit
        self.refresh()

    def toggle_times(self) -> None:
        """Show beside each name when the message was written, or no longer."""
        self._timed = not self._timed
        self.refresh()

    def refresh(self) -> None:
        """Times, branch counts, "not saved" marks and the tint, once what is to be drawn is."""

        async def refresh() -> None:
            unsaved, cut = self._unsaved(), self._session.conversation.cut
            for view in self.messages.views():
                view.set_timed(self._timed)
                view.set_cut(view.message.id == cut)
                view.set_place(self._place(view.message.id))
                view.set_saved(view.message.id not in unsaved)
                tinted = self.tinted and not self._sought  # marks stand in the text as it reads
                view.set_tint(scored_text(view.message) if tinted else ())
                view.seek(self._sought, self._hit)

        self._work.later(refresh)

    def _make_view(self, message: Message) -> MessageView:
        if message.id in self._session.conversation:  # it may have grown since it was told of
            message = self._session.conversation.get(message.id)
        reply = self._session.reply
        growing = reply is not None and reply.message.id == message.id
        saved = message.id not in self._unsaved()
        view = MessageView(message, place=self._place(message.id), growing=growing, saved=saved)
        view.seek(self._sought, self._hit)
        return view

    def _place(self, message_id: str) -> tuple[int, int]:
        """Which of how many siblings it is, from 1."""
        conversation = self._session.conversation
        if message_id not in conversation:
            return 1, 1
        siblings = [one.id for one in conversation.siblings(message_id)]
        return siblings.index(message_id) + 1, len(siblings)

    def _unsaved(self) -> set[str]:
        return {one.id for one in self._session.chat.unsaved}
