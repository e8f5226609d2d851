"""What the parameters of a reply mean in a model's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_core.constraints.after_thought import AfterThought
from llama_core.constraints.base import Constraint
from llama_core.constraints.grammar import Grammar
from llama_core.sampling.dry import NO_BREAKERS, Breakers, find_breakers
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import ThinkingFormat

if TYPE_CHECKING:
    from llama_core.constraints.guidance import GuidanceGrammars

MAX_KEPT = 8


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Of one reply: what ends DRY's sequences, and what the reply is held to."""

    breakers: Breakers = field(default_factory=lambda: NO_BREAKERS)
    constraint: Constraint | None = None

    def copy(self) -> TokenRules:
        """The same for another reply to the same prompt."""
        return TokenRules(self.breakers, None if self.constraint is None else self.constraint.copy())


NO_RULES = TokenRules()


class Rules:
    """Makes the rules of replies for one tokenizer; its tables are built on first use. One thread at a time.

    vocab_size: of the model's logits; thinking: how the model writes its thoughts, which no grammar holds.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, thinking: ThinkingFormat | None = None) -> None:
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._vocab_size = vocab_size
        self._breakers: dict[tuple[str, ...], Breakers] = {}
        self._grammars: GuidanceGrammars | None = None

    def of(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int] = (),
        *,
        begun_n: int = 0,
        plain: bool = False,
    ) -> TokenRules:
        """The rules of the reply to a prompt, whose last `begun_n` ids are the reply's own beginning. plain:
        no thought is told apart. Raises GrammarError where its grammar cannot be held."""
        breakers, constraint = NO_BREAKERS, None
        if params.dry_multiplier:
            breakers = self._breakers_of(params.dry_sequence_breakers)
        if params.grammar is not None:
            ends = frozenset() if params.ignore_eos else self._tokenizer.stop_ids
            before = prompt_ids[: len(prompt_ids) - begun_n]
            constraint = self._held(params.grammar, ends, before, self._thinking if not plain else None)
            for token_id in prompt_ids[len(before) :]:
                constraint.take(token_id)
        return TokenRules(breakers, constraint)

    def _held(
        self,
        grammar: Grammar,
        ends: frozenset[int],
        prompt_ids: Sequence[int],
        thinking: ThinkingFormat | None,
    ) -> Constraint:
        """The constraint at the beginning of a reply. Raises GrammarError."""
        if self._grammars is None:
            from llama_core.constraints.guidance import GuidanceGrammars

            self._grammars = GuidanceGrammars(self._tokenizer, self._vocab_size)
        constraint = self._grammars.begin(grammar, ends)
        if thinking is None or not thinking.begins:
            return constraint
        return AfterThought(constraint, thinking, self._tokenizer, prompt_ids, ends, self._vocab_size)

    def _breakers_of(self, texts: tuple[str, ...]) -> Breakers:
        if texts not in self._breakers:
            if len(self._breakers) >= MAX_KEPT:
                self._breakers.clear()
            self._breakers[texts] = find_breakers(texts, self._tokenizer)
        return self._breakers[texts]
