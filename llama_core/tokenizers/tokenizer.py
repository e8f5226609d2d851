"""What every tokenizer does alike: special tokens, decoding, names for people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.base import StreamDecoder
from llama_core.tokenizers.detokenizer import Utf8Stream
from llama_core.tokenizers.vocabulary import Vocabulary


class VocabularyTokenizer(ABC):
    """The part of `base.Tokenizer` that does not depend on how text is split into tokens.

    A kind of tokenizer adds `_encode_text` and `_bytes_of`. Tables are built on first use; building one
    twice from two threads is harmless, so instances may be shared.
    """

    def __init__(self, vocabulary: Vocabulary, kind: str) -> None:
        self._vocabulary = vocabulary
        self._kind = kind
        self._bytes: list[bytes | None] = [None] * len(vocabulary)

    @abstractmethod
    def _encode_text(self, text: str, *, first: bool, after_special: bool, special: bool) -> list[int]:
        """Ids of a text that `_matcher`, or with `special` `_special_matcher`, has split. `first`: it begins
        the input; `after_special`: it begins the input or follows a special token."""

    @abstractmethod
    def _bytes_of(self, token_id: int) -> bytes:
        """The bytes of a token that is not special."""

    @property
    def kind(self) -> str:
        """A short name for people."""
        return self._kind

    @property
    def vocab_size(self) -> int:
        """How many ids there are, those that stand for no text included."""
        return len(self._vocabulary)

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text."""
        return self._vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text."""
        return self._vocabulary.eos_id

    @property
    def add_bos(self) -> bool:
        """Whether a raw prompt starts with `bos_id`."""
        return self._vocabulary.add_bos and self._vocabulary.bos_id is not None

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every id that ends a reply."""
        return self._vocabulary.stop_ids

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Texts and ids of the tokens that only template text may produce."""
        return self._vocabulary.special_tokens

    def _match(self, ids: Mapping[str, int]) -> TokenMatcher:
        """What finds these tokens in a text."""
        return TokenMatcher(ids)

    @cached_property
    def _matcher(self) -> TokenMatcher:
        return self._match(self._vocabulary.plain_added)

    @cached_property
    def _special_matcher(self) -> TokenMatcher:
        return self._match(self._vocabulary.plain_added | self._vocabulary.special_tokens)

    @cached_property
    def _marker_matcher(self) -> TokenMatcher:
        special = self._vocabulary.special_tokens
        return self._match({text: i for text, i in special.items() if len(text) > 1})

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; see `base.Tokenizer.encode`. Unpaired surrogates count as U+FFFD."""
        parts = (self._special_matcher if special else self._matcher).split(text)
        return self._encode_parts(parts, special=special)

    def split_special(self, text: str) -> list[str | int]:
        """The parts of `text` in order: an id for each special token, the text between, never empty. A token
        of one character is text here: nothing could keep a message from spelling it."""
        return self._marker_matcher.split(text)

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Ids of a text whose special tokens are already found: each `int` stands for itself, each `str` is
        text in which no special token is looked for. Neighbouring texts should be joined beforehand."""
        flat: list[str | int] = []
        for part in parts:
            flat += [part] if isinstance(part, int) else self._matcher.split(part)
        return self._encode_parts(flat, special=False)

    def _encode_parts(self, parts: Sequence[str | int], *, special: bool) -> list[int]:
        ids: list[int] = []
        after_special = True
        for index, part in enumerate(parts):
            if isinstance(part, int):
                ids.append(part)
            else:
                first = index == 0
                ids += self._encode_text(part, first=first, after_special=after_special, special=special)
            after_special = isinstance(part, int)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; none where it stands for no text. Raises IndexError outside."""
        if not 0 <= token_id < len(self._bytes):
            raise IndexError(f"token id {token_id} is outside the vocabulary of {len(self._bytes)}")
        data = self._bytes[token_id]
        if data is None:
            data = b"" if token_id in self._vocabulary.silent_ids else self._bytes_of(token_id)
            self._bytes[token_id] = data
        return data

    def token_text(self, token_id: int) -> str:
        """The token as a person reads it: special tokens by name, broken UTF-8 as `\\xNN`, and llama.cpp's
        name for an id that stands for nothing."""
        data = self.token_bytes(token_id)
        if token_id in self._vocabulary.silent_ids:
            return well_formed(self._vocabulary.tokens[token_id]) or f"[PAD{token_id}]"
        return data.decode("utf-8", "backslashreplace")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; broken UTF-8 becomes U+FFFD, special tokens are left out."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """A fresh decoder for one reply."""
        return Utf8Stream(self.token_bytes)


def well_formed(text: str) -> str:
    """`text` with unpaired surrogates as U+FFFD and paired ones joined, so that it can become UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def raw_bytes(text: str) -> bytes:
    """The bytes that a token's text in a file stands for; readers keep bytes that are no UTF-8 as surrogates
    (PEP 383). A surrogate that no such reader writes becomes U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return well_formed(text).encode()
