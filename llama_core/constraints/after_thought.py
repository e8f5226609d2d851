"""A grammar holds for the answer: the thought before it is free, but may not end the reply."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np

from llama_core.constraints.base import Constraint, Mask
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import ThinkingFormat, ThoughtReader


class AfterThought:
    """A `Constraint`: `inner` from where the answer begins.

    markers: how the model writes its thoughts; prompt_ids: the prompt, which may open one, or close it. The
    white space that the model writes behind a thought is no part of the answer.
    """

    def __init__(
        self,
        inner: Constraint,
        markers: ThinkingFormat,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        stop_ids: frozenset[int],
        vocab_size: int,
    ) -> None:
        self._inner = inner
        self._tokenizer = tokenizer
        self._opening = markers.begins[0]
        self._space = [i for i in markers.answers if not (tokenizer.token_bytes(i) or b"x").strip()][-1:]
        self._free = np.ones(vocab_size, dtype=np.bool_)
        self._free[list(stop_ids)] = False
        self._reader: ThoughtReader = markers.reader(prompt_ids)
        self._place: Literal["begin", "thought", "space", "answer"] = "begin"
        if self._reader.thinking:
            self._place = "thought"
        elif markers.skips and tuple(prompt_ids[-len(markers.skips) :]) == markers.skips:
            self._place = "answer"

    @property
    def complete(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._inner.complete

    def allowed(self) -> Mask:
        """(vocab_size,); raises GrammarError as `inner` does."""
        if self._place == "thought":
            return self._free.copy()
        allowed = self._inner.allowed()
        if self._place == "begin":
            allowed[self._opening] = True
        elif self._place == "space":
            allowed[self._space] = True
        return allowed

    def take(self, token_id: int) -> None:
        """Go on with a token; raises GrammarError where it is not allowed."""
        if self._place == "begin" and token_id == self._opening:
            self._place = "thought"
        if self._place == "thought":
            self._reader.push(token_id)
            if self._reader.answering:
                self._place = "space"
        elif self._place == "space" and token_id in self._space:
            self._place = "answer"
        else:
            self._place = "answer"
            self._inner.take(token_id)

    def copy(self) -> AfterThought:
        """The same place, to go on apart. The tokenizer is shared."""
        shared: dict[int, object] = {id(one): one for one in (self._tokenizer, self._free)}
        twin = copy.copy(self)
        twin._inner = self._inner.copy()
        twin._reader = copy.deepcopy(self._reader, shared)
        return twin
