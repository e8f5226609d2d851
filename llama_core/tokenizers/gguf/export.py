"""A tokenizer as GGUF metadata: the reverse of `from_gguf.py`, for `models convert`.

What GGUF has words for is written down; then the metadata is read again and must give the ids of the source
on many texts. Where they differ only in a way that GGUF cannot express, the user gets a note.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.gguf.names import unique_names
from llama_core.tokenizers.gguf.read import END_LIST_KEY, NEVER, NO_ID, PREFIX, tokenizer_from_gguf
from llama_core.tokenizers.gguf.rules import rule_for
from llama_core.tokenizers.json_bpe import JsonBPE
from llama_core.tokenizers.probes import probes
from llama_core.tokenizers.spm_bpe import SpmBPE
from llama_core.tokenizers.tokenizer import VocabularyTokenizer
from llama_core.tokenizers.vocabulary import TokenType

END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Readers of BPE by scores take 1, 2 and 0 for ids that are absent.
NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "unknown_token_id"), NO_ID)
MAX_WORDS = 4096
MAX_ADDED = 512

NFC_NOTE = (
    "GGUF cannot say that texts are composed first (NFC): where a letter and its accent come as two "
    "characters, the converted model sees other tokens than the source."
)
SPACE_NOTE = (
    "A text that begins with a space, also one behind a special token, gets one more space in the converted "
    "model: GGUF's rule puts one before every text."
)
ADDED_NOTE = (
    "Text beside a special or added token can become other tokens than in the source: GGUF has no words for "
    "the source's rules about the space there."
)


def tokenizer_to_gguf(tokenizer: Tokenizer, n_rows: int) -> tuple[dict[str, Any], list[str]]:
    """(the keys `tokenizer.ggml.*` that describe `tokenizer`, sentences about what they do not say).

    n_rows: rows of the embedding; GGUF wants a token for each, so spare rows get unused ones. Raises
    ValueError with a sentence where GGUF has no words for the tokenizer.
    """
    if not isinstance(tokenizer, SpmBPE | JsonBPE):
        raise ValueError(f"a tokenizer of this kind ({tokenizer.kind}) cannot be written as GGUF")
    notes: list[str] = []
    common, repeats = _common(tokenizer, n_rows)
    if repeats:
        notes.append(f"Tokens that repeat the text of another are written as unused ones: {len(repeats):,}.")
    texts = [*probes(), *_own_words(tokenizer), *map(tokenizer.token_text, repeats)]
    texts += [text.lstrip(" ") for text in texts if text.startswith(" ")]
    if isinstance(tokenizer, JsonBPE) and tokenizer._normalize.kinds == ("NFC",):
        texts = [unicodedata.normalize("NFC", text) for text in texts]
        notes.append(NFC_NOTE)
    examples = []
    for keys, guess in _candidates(tokenizer, common, texts):
        again = _read(keys)
        differing = _differing(tokenizer, again, texts)
        # A space at the begin is the one difference to put up with: without it the text is there too.
        examples += (serious := [text for text in differing if not text.startswith(" ")])
        if not serious:
            notes += guess
            notes += [SPACE_NOTE] if differing else []
            notes += [ADDED_NOTE] if _differs_beside_added(tokenizer, again) else []
            ends, lost = _ends(tokenizer, again)
            return {PREFIX + key: value for key, value in (keys | ends).items()}, notes + lost
    raise ValueError(
        f"no rule that GGUF knows cuts texts as this tokenizer does ({tokenizer.kind}): "
        f"{examples[0]!a} would become other tokens"
    )


def _read(keys: dict[str, Any]) -> Tokenizer:
    return tokenizer_from_gguf({PREFIX + key: value for key, value in keys.items()}, Path("metadata"))


def _candidates(
    tokenizer: SpmBPE | JsonBPE, common: dict[str, Any], texts: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Descriptions that may fit, without the prefix of their keys, each with notes about what was guessed."""
    n = len(common["tokens"])
    if isinstance(tokenizer, SpmBPE):
        if tokenizer._rules.drop_unknown:
            raise ValueError(
                f"this tokenizer ({tokenizer.kind}) drops the characters that it has no token for, which "
                "GGUF cannot say; --tokenizer tokenizer.bin, llama2.c's file of this vocabulary, would work"
            )
        yield NO_IDS | common | _scored(tokenizer._scores, n, tokenizer._rules.add_prefix), []
    elif tokenizer._model.byte_level:
        name, by_probes = rule_for(tokenizer, texts)
        guess = (
            f"No rule of GGUF has this tokenizer's expressions; {name} was taken, which cuts {len(texts):,} "
            "test texts alike."
        )
        merges = [" ".join(merge.split(tokenizer._model.separator)) for merge in tokenizer._model.merges]
        yield common | {"model": "gpt2", "pre": name, "merges": merges}, [guess] if by_probes else []
    else:
        scores = _scores_of_merges(tokenizer)
        for add_prefix in (True, False):
            yield NO_IDS | common | _scored(scores, n, add_prefix), []


def _common(tokenizer: VocabularyTokenizer, n_rows: int) -> tuple[dict[str, Any], list[int]]:
    """(the keys that both kinds have, the ids that lost their text to another with the same)."""
    tokens, types, repeats = unique_names(tokenizer._vocabulary, n_rows)
    keys = {"tokens": tokens, "token_type": types, "add_bos_token": tokenizer.add_bos}
    unknown = tokenizer._vocabulary.ids_of_type(TokenType.UNKNOWN)
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "unknown_token_id": unknown[0] if unknown else None,
    }
    return keys | {key: value for key, value in ids.items() if value is not None}, repeats


def _scored(scores: Sequence[float] | NDArray[np.float32], n: int, add_prefix: bool) -> dict[str, Any]:
    padded = np.full(n, NEVER, np.float32)
    padded[: len(scores)] = scores
    return {"model": "llama", "scores": padded, "add_space_prefix": add_prefix}


def _scores_of_merges(tokenizer: JsonBPE) -> list[float]:
    """Scores under which pieces merge in the order of the ranks: less for each later merge."""
    table = tokenizer._vocabulary.mergeable
    scores = [NEVER] * tokenizer.vocab_size
    for rank, merge in reversed(list(enumerate(tokenizer._model.merges))):
        token_id = table.get(merge.replace(tokenizer._model.separator, ""))
        if token_id is not None:
            scores[token_id] = -float(rank)
    return scores


def _own_words(tokenizer: VocabularyTokenizer) -> Iterator[str]:
    """Texts made of the vocabulary's own tokens, some thousand evenly spread: they exercise its merges."""
    ids = sorted(tokenizer._vocabulary.text_to_id.values())
    words = [tokenizer.token_text(i) for i in ids[:: max(1, len(ids) // MAX_WORDS)]]
    at_once = 6
    for start in range(0, len(words), at_once):
        yield "".join(words[start : start + at_once])


def _differing(
    tokenizer: Tokenizer, again: Tokenizer, texts: Sequence[str], *, special: bool = False
) -> list[str]:
    return [t for t in texts if again.encode(t, special=special) != tokenizer.encode(t, special=special)]


def _differs_beside_added(tokenizer: VocabularyTokenizer, again: Tokenizer) -> bool:
    vocabulary = tokenizer._vocabulary
    names = islice(vocabulary.special_tokens | vocabulary.plain_added, MAX_ADDED)
    # White space on both sides, but no space behind a name: that is SPACE_NOTE's matter.
    return bool(_differing(tokenizer, again, [f"the {name}end{name}\tof" for name in names], special=True))


def _ends(tokenizer: Tokenizer, again: Tokenizer) -> tuple[dict[str, Any], list[str]]:
    """Keys for the ids that end a reply and that a reader would not know by their names; a note about those
    that only the list holds, which llama.cpp does not read."""
    missing = sorted(tokenizer.stop_ids - again.stop_ids)
    free = END_KEYS[0 if again.eos_id is None else 1 :]
    keys: dict[str, Any] = dict(zip(free, missing, strict=False))
    rest = missing[len(free) :]
    if not rest:
        return keys, []
    keys[END_LIST_KEY] = np.array(rest, np.int32)
    names = ", ".join(ascii(tokenizer.token_text(i)) for i in rest)
    note = (
        f"GGUF has keys for {len(END_KEYS)} end tokens. The others are listed under {PREFIX}{END_LIST_KEY}, "
        f"which llama.cpp does not read, so that these do not end its replies: {names}."
    )
    return keys, [note]
