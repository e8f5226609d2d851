"""Grammars by llguidance (the extra `structured`): the one module that knows it.

It walks the vocabulary as a tree of bytes beside an Earley parser whose lexer is made of derivatives of
regular expressions; a mask takes 5 to 150 microseconds. Control tokens stand for no text and are allowed
nowhere, except by name (`<|python_tag|>`) in a grammar. Whether the reply may end is asked by an id of our
own behind the vocabulary, so that every end a model has counts, and none is needed. Where only one text can
follow, only the tokens are allowed that the tokenizer would split it into: those the model knows it by.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_core.constraints.base import Mask
from llama_core.constraints.grammar import Grammar
from llama_core.errors import GrammarError
from llama_core.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MISSING = "a schema, a regular expression or a grammar needs `pip install llama-chat[structured]`"
STUCK = "no token of this model goes on with what the grammar asks for here"
MAX_TEXT = 300  # of an error of the parser's
MAX_KEPT = 32
# White space between the parts of JSON: enough for indented lines, and not without end, as small models
# would have it. A schema's own "x-guidance" goes before.
JSON_OPTIONS: Any = {"whitespace_pattern": "[ \\t\\n\\r]{0,24}"}
_END = b"<|end of reply|>"


def is_installed() -> bool:
    """Whether there is what reads grammars."""
    return importlib.util.find_spec("llguidance") is not None


class GuidedReply:
    """A `Constraint` by llguidance. stop_ids: what ends the reply."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._stop_ids = stop_ids
        # Kept, since the matcher may be asked by one thread at a time, and a mask may be under way.
        self.complete = matcher.is_stopped() and not matcher.is_error()

    def allowed(self) -> Mask:
        """(vocab_size,); raises GrammarError as `Constraint` says."""
        words = np.zeros(self._vocab_size // 32 + 1, dtype=np.int32)
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)
        allowed = bits[: self._vocab_size]
        if bits[self._vocab_size]:
            allowed[list(self._stop_ids)] = True
        if not allowed.any():
            raise GrammarError(STUCK)
        return allowed

    def take(self, token_id: int) -> None:
        """Go on with a token; raises GrammarError where it is not allowed."""
        if token_id in self._stop_ids and self._matcher.is_accepting():
            self.complete = True
            return
        self._matcher.consume_token(token_id)
        self._check()
        self.complete = self._matcher.is_stopped()

    def copy(self) -> GuidedReply:
        """The same place, to go on apart."""
        return GuidedReply(self._matcher.deep_copy(), self._vocab_size, self._stop_ids)

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = _shortened(self._matcher.get_error())
            if problem.startswith("NoExtension"):
                raise GrammarError(STUCK)
            raise GrammarError(f"the reply left its grammar: {problem}")


class GuidanceGrammars:
    """Compiles grammars for one tokenizer and keeps the last ones. One thread at a time.

    vocab_size: of the model's logits. Making it reads the whole vocabulary: a second for 150,000 tokens.
    Raises GrammarError where llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        if not is_installed():
            raise GrammarError(MISSING)
        import llguidance

        self._vocab_size = vocab_size
        words = llguidance.TokenizerWrapper(_Words(tokenizer, vocab_size))
        self._tokenizer: LLTokenizer = llguidance.LLTokenizer(words)
        self._kept: dict[Grammar, LLMatcher] = {}

    def begin(self, grammar: Grammar, stop_ids: frozenset[int]) -> GuidedReply:
        """The beginning of a reply. Raises GrammarError, a sentence, for a grammar that cannot be held."""
        matcher = self._kept.pop(grammar, None) or self._compiled(grammar)
        self._kept[grammar] = matcher
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return GuidedReply(matcher.deep_copy(), self._vocab_size, stop_ids)

    def _compiled(self, grammar: Grammar) -> LLMatcher:
        import llguidance

        limits = llguidance.LLParserLimits(verbose_errors=False)
        try:
            if grammar.kind == "schema":
                source = llguidance.LLMatcher.grammar_from_json_schema(grammar.text, defaults=JSON_OPTIONS)
            else:
                source = llguidance.grammar_from(_FORMATS[grammar.kind], grammar.text)
        except ValueError as error:
            raise GrammarError(f"{_NAMES[grammar.kind]} is not one: {_shortened(str(error))}") from None
        matcher = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=limits)
        if matcher.is_error():
            problem = _shortened(matcher.get_error())
            raise GrammarError(f"{_NAMES[grammar.kind]} cannot be held to: {problem}")
        return matcher


_FORMATS: dict[str, Any] = {"regex": "regex", "grammar": "grammar"}
_NAMES = {"schema": "the JSON schema", "regex": "the regular expression", "grammar": "the grammar"}


class _Words:
    """A tokenizer as llguidance asks for one: the bytes of each id, and which ids stand for no text."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        names = {token_id: text for text, token_id in tokenizer.special_tokens.items()}
        known = min(vocab_size, tokenizer.vocab_size)
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(known)]
        for token_id, text in names.items():
            if token_id < known:
                self.tokens[token_id] = text.encode("utf-8", "replace")
        # Rows of the model beyond the tokenizer's tokens can be drawn, and stand for nothing.
        self.tokens += [b""] * (vocab_size - known)
        self.tokens.append(_END)
        self.eos_token_id = vocab_size
        self.bos_token_id = None
        self.special_token_ids = [*sorted(names), vocab_size]
        self._tokenizer = tokenizer
        silent = frozenset(self.special_token_ids)
        self._ids = {word: i for i, word in enumerate(self.tokens) if word and i not in silent}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: str) -> list[int]:
        """The ids of a text within a reply; a tokenizer that puts a space before every text is not asked."""
        ids, data = self._tokenizer.encode(text), text.encode()
        if b"".join(self.tokens[token_id] for token_id in ids) == data:
            return ids
        return self._longest_first(data)

    def _longest_first(self, data: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(data):
            ends = range(min(len(data), at + self._longest), at, -1)
            end = next((end for end in ends if data[at:end] in self._ids), None)
            if end is None:  # a byte that this vocabulary lacks
                break
            ids.append(self._ids[data[at:end]])
            at = end
        return ids


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
