"""A tokenizer of given words, longest first: as odd a vocabulary as a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_core.tokenizers.detokenizer import Utf8Stream


class WordTokenizer:
    """words: the bytes or text of each id, b"" for one that stands for nothing. special: texts and ids of
    control tokens among them; stop_ids: those that end a reply. What no word expresses is dropped."""

    kind = "words"
    bos_id = None
    eos_id = None
    add_bos = False

    def __init__(
        self,
        words: Sequence[bytes | str],
        special: Mapping[str, int] | None = None,
        stop_ids: Iterable[int] = (),
    ) -> None:
        self.words = [word.encode() if isinstance(word, str) else word for word in words]
        self.special_tokens = dict(special or {})
        self.stop_ids = frozenset(stop_ids)
        self.vocab_size = len(self.words)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        data, ids = text.encode(), []
        silent = set(self.special_tokens.values())
        while data:
            fitting = [
                (len(word), -i)
                for i, word in enumerate(self.words)
                if word and i not in silent and data.startswith(word)
            ]
            if fitting:
                n, i = max(fitting)
                ids.append(-i)
            data = data[n if fitting else 1 :]
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return b"" if token_id in self.special_tokens.values() else self.words[token_id]

    def token_text(self, token_id: int) -> str:
        return self.words[token_id].decode("utf-8", "backslashreplace")

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream(self) -> Any:
        return Utf8Stream(self.token_bytes)
