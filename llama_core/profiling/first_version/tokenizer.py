"""The tokeniser of first versions: `list.index` for every look-up, a full rescan for every merge.

Two vocabularies, one habit. `ScoreTokenizer` is the published one (sentencepiece's BPE by scores, as llama2.c
and llama3.np write it); `RankTokenizer` does the same to a list of merges, for models with byte-level BPE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from llama_core.checkpoint import Checkpoint
from llama_core.tokenizers.pretokenizers import splitter
from llama_core.tokenizers.spm_bpe import SPACE

# How GPT-2's family cuts a text into pieces, with single digits.
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class ScoreTokenizer:
    """vocab: the tokens' texts; scores: a token with a higher score is merged first. Where a text occurs
    twice, the first one counts, because that is what `list.index` finds."""

    def __init__(self, vocab: Sequence[str], scores: Sequence[float]) -> None:
        self.vocab = list(vocab)
        self.scores = list(scores)

    def lookup(self, text: str) -> int:
        """The id of a text, or -1: one scan, as published."""
        try:
            return self.vocab.index(text)
        except ValueError:
            return -1

    def encode(self, text: str, most_merges: int = sys.maxsize) -> list[int]:
        """Ids of `text`; characters that the vocabulary lacks are left out.

        most_merges: stop after so many, where all of them would take hours.
        """
        tokens: list[int] = []
        for character in text:
            found: int = self.lookup(character)
            if found >= 0:
                tokens.append(found)
        for _ in range(most_merges):
            best_score: float = -1e10
            best_id: int = -1
            best_at: int = -1
            for at in range(len(tokens) - 1):
                pair: str = self.vocab[tokens[at]] + self.vocab[tokens[at + 1]]
                found = self.lookup(pair)
                if found != -1 and self.scores[found] > best_score:
                    best_score, best_id, best_at = self.scores[found], found, at
            if best_at == -1:
                break
            tokens[best_at : best_at + 2] = [best_id]
        return tokens


class DictScoreTokenizer(ScoreTokenizer):
    """The first remedy: a dict for the look-ups. The rescans stay."""

    def __init__(self, vocab: Sequence[str], scores: Sequence[float]) -> None:
        super().__init__(vocab, scores)
        self.ids: dict[str, int] = {}
        for i, text in enumerate(self.vocab):
            self.ids.setdefault(text, i)

    def lookup(self, text: str) -> int:
        """The id of a text, -1 where it is none."""
        return self.ids.get(text, -1)


class RankTokenizer:
    """merges: pairs "left right" in the order of their rank, as GGUF and GPT-2 list them; vocab: the tokens'
    texts. `encode` takes one piece of a text that was split before, in the vocabulary's own characters."""

    def __init__(self, vocab: Sequence[str], merges: Sequence[str]) -> None:
        self.vocab = list(vocab)
        self.merges = list(merges)

    def rank(self, pair: str) -> int:
        """The rank of a pair, or -1."""
        try:
            return self.merges.index(pair)
        except ValueError:
            return -1

    def encode(self, piece: str) -> list[int]:
        """Ids of a piece."""
        parts: list[str] = list(piece)
        while True:
            best_rank: int = len(self.merges)
            best_at: int = -1
            for at in range(len(parts) - 1):
                rank: int = self.rank(f"{parts[at]} {parts[at + 1]}")
                if 0 <= rank < best_rank:
                    best_rank, best_at = rank, at
            if best_at == -1:
                return [self.vocab.index(part) for part in parts if part in self.vocab]
            parts[best_at : best_at + 2] = [parts[best_at] + parts[best_at + 1]]


def first_encode(checkpoint: Checkpoint) -> Callable[[str], list[int]] | None:
    """How a first version encodes text with a checkpoint's own vocabulary: by scores, or by the ranks of
    merges, piece by piece; None for any other kind of tokenizer."""
    tokens = checkpoint.metadata.get("tokenizer.ggml.tokens")
    merges = checkpoint.metadata.get("tokenizer.ggml.merges")
    scores = checkpoint.metadata.get("tokenizer.ggml.scores")
    if tokens is None:
        return None
    if merges is None:
        if scores is None:
            return None
        by_score = ScoreTokenizer(list(tokens), [float(score) for score in scores])
        return lambda text: by_score.encode(text.replace(" ", SPACE))
    by_rank, split = RankTokenizer(list(tokens), list(merges)), splitter((PIECES,))

    def encode(text: str) -> list[int]:
        # ASCII text: the byte alphabet writes a space as "\u0120" and everything else as it is.
        return [token for piece in split(text) for token in by_rank.encode(piece.replace(" ", "\u0120"))]

    return encode
