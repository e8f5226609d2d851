"""The box one types into: several lines, recall of earlier prompts, \"\"\" blocks, completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key, Paste
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from chat_app.attachments.mentions import dropped
from chat_app.chat.slash import Completion
from chat_app.text.sanitize import clean
from chat_app.tui.textual_private import binding_chain
from chat_app.tui.widgets.status import CompletionList

FENCE = '"""'
TAB_WIDTH = 4


class PromptArea(TextArea):
    """Enter sends; inside an open \"\"\" block it breaks the line. Up and Down at the edges recall."""

    # All keys of the prompt are answered in `_on_key`, in order with the text around them: as bindings they
    # would run after characters that were typed later. They stand here for the help screen and the keymap.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", id="prompt.send"),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", id="prompt.newline"),
        Binding("tab", "complete", "Complete a command", id="prompt.complete"),
        Binding("up", "cursor_up", "At the top: earlier prompts", id="prompt.older"),
        Binding("down", "cursor_down", "At the end: later prompts", id="prompt.newer"),
        Binding("ctrl+z", "undo", "Undo; when empty: back to the shell, fg returns", id="prompt.undo"),
        Binding("ctrl+d", "delete_or_leave", "Quit, when empty", id="prompt.leave"),
    ]

    class Recall(Message):
        """Up (-1) or Down (+1) was pressed at the edge."""

        def __init__(self, step: int) -> None:
            self.step = step
            super().__init__()

    class Leave(Message):
        """Ctrl+D was pressed on an empty prompt."""

    def __init__(
        self,
        send: Callable[[str], object],
        *,
        id: str,
        completions: CompletionList | None = None,
        keymap: Mapping[str, str] | None = None,
    ) -> None:
        """send: takes a text in the step in which it leaves the box, so that nothing can come between.
        completions: what shows a command's. keymap: binding ids and their keys, where the user has changed
        them."""
        self._send = send
        self._refused = ""
        self._completion_list = completions
        own = {"prompt.send": self.action_send, "prompt.newline": self.action_newline}
        self._own_keys = {
            key.strip(): own[binding.id]
            for binding in self.BINDINGS
            if isinstance(binding, Binding) and binding.id in own
            for key in (keymap or {}).get(binding.id, binding.key).split(",")
        }
        super().__init__(
            id=id,
            soft_wrap=True,
            tab_behavior="focus",  # Tab is ours
            highlight_cursor_line=False,
            placeholder=Content("Ask anything, or / for commands"),
        )

    def action_send(self) -> None:
        """Send the text; inside an open block break the line, and of a command take the completion marked."""
        if self.text.count(FENCE) % 2:
            self.insert("\n")
            return
        marked = self._marked
        if marked is not None and marked.line and not marked.is_typed:
            self.set_text(marked.line)  # Enter takes what is marked, and sends it if nothing is missing
            if not marked.is_whole:
                return
        text = to_send(self.text)
        if text.strip():
            self.load_text("")  # and with it what could be undone: a sent prompt comes back with Up
            self._send(text)

    def action_undo(self) -> None:
        """Undo; where nothing is typed and nothing can be undone, give the terminal back as shells do."""
        empty = not self.text
        super().action_undo()
        if empty and not self.text:
            self.app.action_suspend_process()

    def action_newline(self) -> None:
        """Break the line."""
        self.insert("\n")

    def action_complete(self) -> None:
        """The marked completion, or spaces to the next tab stop: Tab never leaves the prompt."""
        marked = self._marked
        if marked is not None and marked.line:
            self.set_text(marked.line)
        elif not self.text.startswith("/"):
            self.insert(" " * (TAB_WIDTH - self.cursor_location[1] % TAB_WIDTH))

    @property
    def _marked(self) -> Completion | None:
        """The completion under the mark, if what it completes is what is typed."""
        return self._completions.marked_for(self.text) if self._completions is not None else None

    @property
    def _completions(self) -> CompletionList | None:
        """The list, while it is shown: one may be chosen."""
        shown = self._completion_list
        return shown if shown is not None and shown.display else None

    def action_cursor_up(self, select: bool = False) -> None:
        """Up: on the first line an earlier prompt or completion, else the line above."""
        self._up_or_down(-1, select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down: on the last line a later prompt or completion, else the line below."""
        self._up_or_down(+1, select)

    def _up_or_down(self, step: int, select: bool) -> None:
        """Among the completions while there are some; at the edge of the text to another prompt."""
        at_edge = self.cursor_at_first_line if step < 0 else self.cursor_at_last_line
        if not select and self._completions is not None and self._completions.choose(step):
            return
        if not select and at_edge:
            self.post_message(self.Recall(step))
        elif step < 0:
            super().action_cursor_up(select)
        else:
            super().action_cursor_down(select)

    def render_line(self, y: int) -> Strip:
        """A line of the box; blank where the box has no width."""
        if self.content_size.width < 1:  # TextArea cannot wrap its placeholder into no column at all
            return Strip.blank(self.size.width)
        return super().render_line(y)

    def action_delete_or_leave(self) -> None:
        """Delete to the right; in an empty prompt ask to leave."""
        if self.text:
            self.action_delete_right()
        else:
            self.post_message(self.Leave())

    def set_text(self, text: str) -> None:
        """Replace the text; the cursor stands at its end. Control codes are dropped."""
        self.load_text(clean(text))
        self.move_cursor(self.document.end)

    def offer_again(self, line: str) -> None:
        """A line that was refused comes back, unless another text stands here already. It is selected: what
        is typed next takes its place, an arrow key keeps it."""
        if not self.text:
            self.set_text(line)
            self.select_all()
            self._refused = self.text

    @property
    def kept_text(self) -> str:
        """The text, but for a refused line that stands there as it came back: it joins nothing."""
        return "" if self._refused == self.text == self.selected_text else self.text

    async def _on_paste(self, event: Paste) -> None:
        # Pasted text is shown as it will be sent, so what a terminal would obey is dropped here already.
        event.stop()
        event.text = clean(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        if not self.text.startswith("/"):  # a command takes a path as it is
            event.text = dropped(event.text) or event.text
        await super()._on_paste(event)
        event.prevent_default()

    async def _on_key(self, event: Key) -> None:
        answer = self._own_keys.get(event.key)
        if answer is not None:
            event.stop()
            answer()
        elif event.key != "enter":  # TextArea would insert a line break where Enter is mapped elsewhere
            await super()._on_key(event)
            if not event.is_printable and await self._run_binding(event.key):
                event.stop()
        event.prevent_default()

    async def _run_binding(self, key: str) -> bool:
        """Run what `key` does here, keymap included, before the next key is looked at."""
        for node, bindings in binding_chain(self.screen):
            if node is self:
                for binding in bindings.key_to_bindings.get(key, ()):
                    if not binding.priority and await self.app.run_action(binding.action, self):
                        return True
        return False

    def take_key(self, event: Key) -> bool:
        """A character typed where it means nothing: into the prompt, with the focus. False for other keys."""
        if not event.is_printable or event.character is None:
            return False
        self.focus()
        self.replace(event.character, *self.selection, maintain_selection_offset=False)
        return True


def to_send(text: str) -> str:
    """The text inside one \"\"\" block that is the whole prompt, as it is; any other text without blank lines
    around it and blanks behind it. Nobody means those, and a small model answers another question."""
    inner = text.strip()
    if len(inner) >= 2 * len(FENCE) and inner.startswith(FENCE) and inner.endswith(FENCE):
        return inner[len(FENCE) : -len(FENCE)].strip("\n")
    return text.rstrip().lstrip("\n")
