"""Replies in a prompt keep the tokens that they were written with.

A text can be split in many ways, and a model does not always write the split that a tokenizer would choose.
Made again from its text, a reply could be other tokens than the model wrote and the KV cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from chat_app.engines.base import TokenAccess, Turn
from llama_core.errors import TemplateError

MAX_PLACES = 4096
NOWHERE = -1


class ReplyIds:
    """Puts the known tokens of replies into rendered prompts.

    encode: the ids of turns up to where the next reply begins; special: ids that no message can spell.
    """

    def __init__(
        self, tokens: TokenAccess, encode: Callable[[Sequence[Turn]], list[int]], special: Collection[int]
    ) -> None:
        self._tokens = tokens
        self._encode = encode
        self._special = frozenset(special)
        self._begins: dict[
            tuple[tuple[str, str, str], ...], int
        ] = {}  # where the reply to these turns begins

    def known(self, turn: Turn) -> bool:
        """Whether the turn's ids still spell its text with this model's tokenizer."""
        try:
            answer = self._tokens.decode(self._answer(turn))
        except IndexError:  # the ids of another model
            return False
        # White space behind a thought is shown to nobody.
        return bool(turn.ids) and (answer.lstrip() if turn.thought_n else answer) == turn.content

    def of(self, turn: Turn) -> list[int]:
        """The ids of a reply that goes on: its own, thought and all, where they are known."""
        return list(turn.ids) if self.known(turn) else self._tokens.encode(turn.content)

    def put_into(self, turns: Sequence[Turn], ids: Sequence[int]) -> list[int]:
        """`ids`, the rendered `turns`, with each reply's own tokens where its text stands.

        A reply whose place is not certain stays as it is: the template changes it, or runs it into its own
        words.
        """
        result: list[int] = []
        done = 0
        for at, turn in enumerate(turns):
            if turn.role != "assistant" or not self.known(turn):
                continue
            begin = self._begin(turns[:at])
            end = next((i for i in range(begin, len(ids)) if ids[i] in self._special), len(ids))
            text = self._tokens.decode(ids[begin:end])
            if begin >= done and text.strip() == turn.content.strip():
                result += [*ids[done:begin], *self._answer(turn)]
                done = end
        return [*result, *ids[done:]]

    def _answer(self, turn: Turn) -> tuple[int, ...]:
        """The turn's own tokens but for its thought, which a template sends or does not."""
        return turn.ids[turn.thought_n :]

    def _begin(self, before: Sequence[Turn]) -> int:
        key = tuple((turn.role, turn.content, turn.thought) for turn in before)
        if key not in self._begins:
            if len(self._begins) >= MAX_PLACES:
                self._begins.clear()
            try:
                self._begins[key] = len(self._encode(before))
            except TemplateError:  # these turns alone are no conversation to the template
                self._begins[key] = NOWHERE
        return self._begins[key]
