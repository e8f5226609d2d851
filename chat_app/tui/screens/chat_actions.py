"""What the chat's keys do."""

from __future__ import annotations

from chat_app.tui.screens.chat_commands import ChatCommands
from chat_app.tui.screens.chat_part import PANEL_MODES
from chat_app.tui.widgets.markdown_messages import LinkShown
from chat_app.tui.widgets.message_view import MessageView

QUIT_WINDOW_S = 2.0


class ChatActions(ChatCommands):
    """The part of the chat screen that answers keys."""

    _quit_until = 0.0

    def action_stop(self) -> None:
        """Esc: from a message back to the prompt; else stop, keeping the partial reply and the queue."""
        if isinstance(self.focused, MessageView):
            self.prompt.focus()
            return
        if self.end_edit():
            return
        self.session.take_back_queue()
        self.session.stop()
        self.prompt.focus()

    def action_interrupt(self) -> None:
        """Ctrl+C: copies a selection, else stops, else quits on the second press."""
        selected = self.prompt.selected_text or self.get_selected_text()
        if selected:
            self.copy(selected)
            self.clear_selection()
            return
        if self.session.stop():
            return
        now = self.app.clock()
        if now < self._quit_until:
            self.app.leave()
            return
        self._quit_until = now + QUIT_WINDOW_S
        self.note("Press Ctrl+C again to quit.")

    def action_new_chat(self) -> None:
        # What was sent before belongs to this chat, so it is sent first.
        self.app.after_typing(lambda: self.spawn(self.session.new_chat()))
        self.prompt.focus()

    def action_history(self) -> None:
        self.app.show_history()

    def action_reset(self) -> None:
        self.session.reset_cache()

    def action_panel(self) -> None:
        """Full, one line, hidden; a narrow terminal has no full panel."""
        modes = PANEL_MODES if self.has_class("-wide") else PANEL_MODES[1:]
        place = modes.index(self.panel_mode) if self.panel_mode in modes else 0
        self.panel_mode = modes[(place + 1) % len(modes)]
        self.app.remember(panel=self.panel_mode)
        self.show_panel_mode()
        self.show_metrics()

    def action_page(self, direction: int) -> None:
        if direction < 0:
            if self.messages.scroll_y <= 0:
                self.later(self.messages.load_earlier)
            self.messages.scroll_page_up(animate=False)
        else:
            self.messages.scroll_page_down(animate=False)

    def action_to_end(self) -> None:
        self.messages.anchor()
        self.show_new_text(False)

    def action_select(self, step: int) -> None:
        """Alt+Up and Alt+Down walk through the messages and back into the prompt."""
        views = self.messages.views()
        if not views:
            return
        if isinstance(self.focused, MessageView) and self.focused in views:
            place = views.index(self.focused) + step
        else:
            place = len(views) - 1 if step < 0 else len(views)
        if place >= len(views):
            self.prompt.focus()
            return
        if place < 0:
            self.later(self.messages.load_earlier)
            place = 0
        views[place].focus()

    def on_message_view_selected(self) -> None:
        self.show_keys()

    def on_message_view_act(self, event: MessageView.Act) -> None:
        branches, message_id = self.session.branches, event.message_id
        if message_id not in self.session.conversation:
            return
        if event.action == "copy":
            self.copy(self.session.conversation.get(message_id).content)
        elif event.action == "edit":
            self.begin_edit(message_id)
        elif event.action == "regenerate":
            self.prompt.focus()
            self.spawn(branches.regenerate(message_id))
        elif event.action == "continue":
            self.prompt.focus()
            self.spawn(branches.continue_reply(message_id))
        elif event.action == "branch":
            branches.branch(message_id)
            self.prompt.focus()
        elif event.action == "inspect":
            self.app.inspect(message_id)
        else:
            shown = branches.switch_branch(message_id, -1 if event.action == "previous" else 1)
            if shown is not None:
                self.later(lambda: self._focus_view(shown))

    async def _focus_view(self, message_id: str) -> None:
        view = self.messages.view_of(message_id)
        if view is None:
            return
        self.messages.release_anchor()  # at its end, the list would push a long branch's head out of sight
        view.focus(scroll_visible=False)
        self.call_after_refresh(lambda: self.messages.scroll_to_widget(view, animate=False, top=True))

    def on_link_shown(self, event: LinkShown) -> None:
        self.note(f"This link leads to {event.address}. Links in replies are not opened.")
