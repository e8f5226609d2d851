"""What the engine asks of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back. Implementations are immutable once built and safe to share by threads."""

    @property
    def kind(self) -> str:
        """A short name for people, such as "byte-level BPE (smollm)"."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this, exclusive."""

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text; None where the vocabulary has none."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text; None where the vocabulary has none."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every id that ends a reply: end of text, end of turn."""

    @property
    def add_bos(self) -> bool:
        """Whether a raw prompt starts with `bos_id` (the caller adds it; `encode` never does)."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The control tokens' texts and ids."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`. With `special`, the texts of control tokens become their ids;
        without it they are ordinary text. Never raises: what the vocabulary cannot express is dropped
        (or becomes the unknown token where the format has one)."""

    def split_special(self, text: str) -> list[str | int]:
        """The parts of `text` in order: an id for each special token that it spells, the text between."""

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Ids of a text whose special tokens were found before: each `int` stands for itself, each `str`
        is text in which no special token is looked for."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; empty for control tokens. Raises IndexError outside."""

    def token_text(self, token_id: int) -> str:
        """The token as a person reads it in a list: control tokens by name, broken UTF-8 escaped."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. Control tokens are left out."""

    def stream(self) -> StreamDecoder:
        """A fresh decoder for one reply."""


class StreamDecoder(Protocol):
    """Turns ids into text one at a time and never emits half a character.

    The pieces of a whole reply joined with `flush()` equal `decode` of all ids (up to a leading-space
    rule that the tokenizer documents).
    """

    def push(self, token_id: int) -> str:
        """The text that this token completes; may be empty."""

    def flush(self) -> str:
        """What is left at the end of a reply: U+FFFD for each broken sequence, or nothing."""
