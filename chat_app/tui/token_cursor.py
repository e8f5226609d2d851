"""The mode in which keys walk through the tokens of a tinted reply, in the chat itself."""

from __future__ import annotations

from collections.abc import Callable

from textual.geometry import Region
from textual.widget import Widget
from textual.worker import Worker

from chat_app.chat.controller import ChatController
from chat_app.chat.token_scores import scored_text
from chat_app.chat.token_walk import DOUBTFUL, TokenWalk
from chat_app.text.errors import describe_error
from chat_app.tui.drawn_conversation import DrawnConversation
from chat_app.tui.home import Home
from chat_app.tui.widgets.messages.tint import TintedText
from chat_app.tui.widgets.messages.view import MessageView
from chat_app.tui.widgets.token_line import TokenLine
from chat_app.tui.work import Work


class TokenCursor:
    """Lasts as long as the tinted text has the focus; `prompt` gets it afterwards."""

    def __init__(
        self,
        session: ChatController,
        drawn: DrawnConversation,
        prompt: Widget,
        work: Work,
        home: Home,
    ) -> None:
        self._session, self._drawn, self._prompt, self._work = session, drawn, prompt, work
        self._home = home
        self.line = TokenLine(id="token-line")
        self._view: MessageView | None = None
        self._looking: Worker[None] | None = None
        self._trouble = ""  # why nothing is looked at
        self.walk: TokenWalk | None = None

    def point(self, text: TintedText, at: int) -> None:
        """Begin in a reply that is tinted, at one of its tokens; or go there."""
        if self._view is not None and self._view.tinted is text and self.walk is not None:
            self.walk.go(at)
            self._show()
            return
        view = next((one for one in self._drawn.messages.views() if one.tinted is text), None)
        if view is not None:
            self._begin(view, at)

    def start(self, focused: Widget | None) -> None:
        """Begin in the reply that is selected, else in the newest one that can be tinted."""
        drawn = self._drawn
        views = [focused] if isinstance(focused, MessageView) else drawn.messages.views()[::-1]
        view = next((view for view in views if scored_text(view.message)), None)
        if view is None:
            self._session.view.note(
                "No reply of this chat has tokens to walk through: they are kept with replies written here."
            )
            return
        if not drawn.tinted:
            drawn.toggle_tint()

        async def begin() -> None:
            self._begin(view)

        self._work.later(begin)

    def _begin(self, view: MessageView, at: int | None = None) -> None:
        """at: the token to begin at, else the first doubtful one."""
        text = view.tinted
        places = [piece.at for piece in text.shown if piece.at >= 0]
        if not (text.display and places):
            return
        self._view, self._looking = view, None
        self.walk = walk = TokenWalk(self._session, view.message.id, at=places[0], places=places)
        if at is not None:
            walk.go(at)
        else:
            walk.seek(1)
        text.take_cursor(self)
        self._show()

    async def _look(self, walk: TokenWalk) -> None:
        try:
            await walk.run(self._draw)
        except Exception as error:  # noqa: BLE001 - the engine's trouble is shown here, not the app's end
            self._trouble = describe_error(error)
            self._draw()

    def _show(self) -> None:
        """Look at the token under the cursor, now that it may be possible again, and draw."""
        walk, view = self.walk, self._view
        if walk is None or view is None:
            return
        if self._looking is None or self._looking.is_finished:
            self._trouble = walk.problem
            if not self._trouble:
                self._looking = view.run_worker(self._look(walk), group="tokens", exclusive=True)
        self._draw()

    def try_again(self) -> None:
        """The model is there, or free again: what could not be looked at may be now."""
        if self._trouble:
            self._show()

    def _draw(self) -> None:
        """The cursor where it is, in sight, and what could stand there."""
        walk, view = self.walk, self._view
        if walk is None or view is None:
            return
        text, messages = view.tinted, self._drawn.messages
        line = text.set_cursor(walk.at)
        if walk.here is not None:
            self.line.show(walk.here, walk.choice)
        elif (piece := text.piece_at(walk.at)) is not None:
            self.line.show_piece(piece, self._trouble or "looking …")
        messages.release_anchor()
        y = view.virtual_region.y + text.virtual_region.y + line
        messages.scroll_to_region(Region(0, y - 1, 1, 3), animate=False, x_axis=False)

    # CursorKeys: what the keys do.

    def move(self, step: int) -> None:
        """Go `step` tokens on, not past either end."""
        self._with(lambda walk: walk.move(step))

    def jump(self, place: int) -> None:
        """Go to the first token (0) or the last (-1)."""
        self._with(lambda walk: walk.jump(place))

    def seek(self, step: int) -> None:
        """Go to the next doubtful token, or the one before."""
        if self.walk is not None and not self.walk.seek(step):
            self._session.view.note(f"There is no other token below {DOUBTFUL:.0%} in this direction.")
        self._show()

    def choose(self, step: int) -> None:
        """Mark another alternative."""
        self._with(lambda walk: walk.choose(step))

    def branch(self) -> None:
        """Take the marked alternative in a branch, which goes on from there."""
        if self.walk is None:
            return
        try:
            work = self.walk.branch()
        except ValueError as refusal:
            self._session.view.note(str(refusal))
            return
        if work is not None:
            self._prompt.focus()
            self._work.spawn(work)

    def draw(self) -> None:
        """Show how the reply could go on from the cursor."""
        if self.walk is not None and self.walk.here is not None:
            self._home.draw_continuations(self.walk.message_id, self.walk.at)

    def inspect(self) -> None:
        """Open the inspector at the cursor."""
        if self.walk is not None:
            self._home.inspect(self.walk.message_id, self.walk.at)

    def leave(self) -> None:
        """Back to the prompt; the tint stays."""
        self._prompt.focus()

    def ended(self) -> None:
        """The focus has gone: nothing is looked at any more."""
        view, self._view, self.walk, self._looking = self._view, None, None, None
        self._trouble, self.line.display = "", False
        if view is not None:
            view.workers.cancel_group(view, "tokens")

    def _with(self, act: Callable[[TokenWalk], object]) -> None:
        if self.walk is not None:
            act(self.walk)
            self._show()
