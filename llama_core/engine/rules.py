"""What the parameters of a reply mean in a model's own tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_core.constraints.base import Constraint
from llama_core.dry import NO_BREAKERS, Breakers, find_breakers
from llama_core.sampling_params import SamplingParams
from llama_core.tokenizers.base import Tokenizer

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

    vocab_size: of the model's logits.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._breakers: dict[tuple[str, ...], Breakers] = {}
        self._grammars: GuidanceGrammars | None = None

    def of(self, params: SamplingParams) -> TokenRules:
        """The rules of a reply from its beginning. Raises GrammarError where its grammar cannot be held."""
        breakers, constraint = NO_BREAKERS, None
        if params.dry_multiplier:
            breakers = self._breakers_of(params.dry_sequence_breakers)
        if params.grammar is not None:
            if self._grammars is None:
                from llama_core.constraints.guidance import GuidanceGrammars

                self._grammars = GuidanceGrammars(self._tokenizer, self._vocab_size)
            ends = frozenset() if params.ignore_eos else self._tokenizer.stop_ids
            constraint = self._grammars.begin(params.grammar, ends)
        return TokenRules(breakers, constraint)

    def _breakers_of(self, texts: tuple[str, ...]) -> Breakers:
        if texts not in self._breakers:
            if len(self._breakers) >= MAX_KEPT:
                self._breakers.clear()
            self._breakers[texts] = find_breakers(texts, self._tokenizer)
        return self._breakers[texts]
