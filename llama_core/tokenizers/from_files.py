"""Tokenizers that come as files of their own: llama2.c's, llama3.np's and Hugging Face's."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.config import MAX_VOCAB
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.ordinary_files import read_ordinary
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.spm_bpe import SPACE, SpaceRules, SpmBPE
from llama_core.tokenizers.vocabulary import BYTE_NAME, TokenType, Vocabulary, fit_to_rows

# The largest published tokenizer.json has 35 MB.
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_SCORE = float(np.finfo(np.float32).max)


def read_limited(path: Path) -> bytes:
    """The whole file. Raises ModelFormatError when it cannot be read or exceeds 256 MiB."""
    try:
        data = read_ordinary(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelFormatError(path, "file", f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ModelFormatError(path, "file", f"is larger than {MAX_FILE_BYTES:,} bytes")
    return data


def read_json(path: Path) -> Any:
    """The file's JSON value. Raises ModelFormatError."""
    data = read_limited(path)
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ModelFormatError(path, "JSON", "nests too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError and numbers of too many digits
        raise ModelFormatError(path, "JSON", f"is not valid: {str(error)[:200]}") from error


def tokenizer_from_llama2c(path: Path, vocab_size: int) -> Tokenizer:
    """llama2.c's `tokenizer.bin` for a model with `vocab_size` tokens.

    Layout, little-endian: max_token_length int32, then per token a score float32, a length int32 and as many
    bytes. Ids 0, 1, 2 are unknown, begin and end; spaces are written as spaces. Raises ModelFormatError
    when the file is not exactly that. Source: `tokenizer.py` and `run.c` of llama2.c.
    """
    if not 1 <= vocab_size <= MAX_VOCAB:
        raise ModelFormatError(path, "vocab_size", f"{vocab_size}, expected 1 to {MAX_VOCAB}")
    data = read_limited(path)
    if len(data) < 4 + 8 * vocab_size:
        raise ModelFormatError(path, "file", f"{len(data):,} bytes are too few for {vocab_size:,} tokens")
    (longest,) = struct.unpack_from("<i", data)
    tokens: list[str] = []
    scores = np.empty(vocab_size, dtype=np.float32)
    entry = struct.Struct("<fi")
    at = 4
    for token_id in range(vocab_size):
        where = f"token {token_id} at byte {at}"
        if at + entry.size > len(data):
            raise ModelFormatError(path, where, "the file ends before it")
        score, length = entry.unpack_from(data, at)
        at += entry.size
        if not 0 <= length <= min(longest, len(data) - at):
            problem = f"length {length}, at most {min(longest, len(data) - at)} fit"
            raise ModelFormatError(path, where, problem)
        if math.isnan(score):
            raise ModelFormatError(path, where, "its score is not a number")
        scores[token_id] = score
        tokens.append(data[at : at + length].decode("utf-8", "surrogateescape").replace(" ", SPACE))
        at += length
    if at != len(data):
        raise ModelFormatError(
            path, f"byte {at}", f"{len(data) - at:,} bytes follow the model's {vocab_size:,} tokens"
        )
    types = np.array(
        [TokenType.BYTE if BYTE_NAME.fullmatch(t) else TokenType.NORMAL for t in tokens], np.int32
    )
    _mark_first_three(tokens, types)
    return _spm(tokens, types, scores, SpaceRules(), "BPE by scores (llama2.c)")


def tokenizer_from_llama3np(path: Path, n_rows: int | None = None) -> Tokenizer:
    """llama3.np's `tokenizer.model.np`: JSON with "tokens" and "scores".

    n_rows: how many ids the model knows (`vocabulary.fit_to_rows`); None for as many as there are tokens.

    Ids 0, 1, 2 are unknown, begin and end. The vocabulary holds texts twice (the bytes 0 to 255 as
    characters, then the characters again): the first is used. No space goes in front of a text, and
    characters without a token are dropped, as llama3.np does. Its `decode` also strips the letters of "<s>"
    from both ends; this one does not. Raises ModelFormatError.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelFormatError(path, "JSON", "an object with tokens and scores expected")
    tokens, scores = found.get("tokens"), found.get("scores")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ModelFormatError(path, "tokens", "a list of strings expected")
    if not 1 <= len(tokens) <= MAX_VOCAB:
        raise ModelFormatError(path, "tokens", f"{len(tokens)} tokens, expected 1 to {MAX_VOCAB}")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelFormatError(path, "scores", f"a list of {len(tokens)} numbers expected")
    if not all(type(score) in (int, float) and -MAX_SCORE < score < MAX_SCORE for score in scores):
        raise ModelFormatError(path, "scores", "a list of float32 numbers expected")
    table = np.array(scores, dtype=np.float32)
    types = np.full(len(tokens), TokenType.NORMAL, dtype=np.int32)
    texts = [token.replace(" ", SPACE) for token in tokens]
    _mark_first_three(texts, types)
    rules = SpaceRules(add_prefix=False, drop_unknown=True)
    tokens, types = fit_to_rows(texts, types, n_rows)
    n = len(tokens)
    table = np.pad(table[:n], (0, max(0, n - len(table))), constant_values=-MAX_SCORE)
    return _spm(tokens, types, table, rules, "BPE by scores (llama3.np)")


def _mark_first_three(tokens: list[str], types: np.ndarray[Any, np.dtype[np.int32]]) -> None:
    """Ids 0, 1 and 2 by position; llama2.c writes line feeds around their names."""
    roles = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    for token_id, (name, kind) in enumerate(roles[: len(tokens)]):
        tokens[token_id] = name
        types[token_id] = kind


def _spm(
    tokens: Sequence[str],
    types: np.ndarray[Any, np.dtype[np.int32]],
    scores: np.ndarray[Any, np.dtype[np.float32]],
    rules: SpaceRules,
    kind: str,
) -> SpmBPE:
    n = len(tokens)
    vocabulary = Vocabulary(
        tokens,
        types,
        bos_id=1 if n > 1 else None,
        eos_id=2 if n > 2 else None,
        # llama2.c and llama3.np were trained on texts one behind another: the next one's begin is the end.
        ends=[1] if n > 1 else [],
        add_bos=True,
        first_wins=True,
    )
    return SpmBPE(vocabulary, scores, unknown_id=0, rules=rules, kind=kind)


def tokenizer_from_json(path: Path, n_rows: int | None = None) -> tuple[Tokenizer, str | None]:
    """A Hugging Face `tokenizer.json` and what lies beside it: (tokenizer, chat template or None).

    n_rows: how many ids the model knows (`vocabulary.fit_to_rows`); None for as many as there are tokens.
    `huggingface/folder.py` says what is read of the files beside it. Raises ModelFormatError, and
    UnsupportedModelError naming the part that cannot be expressed.
    """
    # Imported here: GGUF files do without them.
    from llama_core.tokenizers.huggingface.folder import read_folder
    from llama_core.tokenizers.huggingface.steps import Malformed, Unsupported
    from llama_core.tokenizers.huggingface.tokenizer_json import tokenizer_from_parts

    roles, template = read_folder(path.parent, read_json)
    try:
        return tokenizer_from_parts(read_json(path), roles, n_rows=n_rows, template=template), template
    except Malformed as error:
        raise ModelFormatError(path, "tokenizer", str(error)) from error
    except Unsupported as error:
        raise UnsupportedModelError(path, "tokenizer", f"{error} is not supported") from error
