"""How likely each of some answers is: their tokens computed side by side, in one pass, behind one prompt.

    prompt ──► logits ──┬── answer 1, its tokens but the last ──► logits after each
                        ├── answer 2 ...                            (a cache of its own each,
                        └── answer 3 ...                             the prompt copied into it)

The score of an answer is the sum of the log-probabilities of its tokens. Where one answer is the beginning of
another ("no", "no idea"), the end of the reply counts as one more token of each: without it, the shorter one
could never be the less likely.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.base import BatchModel, Cache, Model
from llama_core.engine.context import without_warnings
from llama_core.errors import ContextFullError, NumericalError

Answer = tuple[int, ...]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """logprob: natural, of the answer after the prompt. probability: of it among the answers that were
    scored; these sum to 1."""

    ids: Answer
    logprob: float
    probability: float


def score_answers(
    model: Model,
    cache: Cache,
    row: F32,
    answers: Sequence[Answer],
    *,
    ends: frozenset[int] = frozenset(),
    room_bytes: int | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[ScoredAnswer]:
    """Score `answers`, all different and none empty, after what `cache` holds, which is left as it is.

    row: (vocab_size,), the logits after the prompt. ends: the ids that end a reply. room_bytes: what further
    caches may take together; with less than all need, the answers go in several passes. Raises
    ContextFullError, NumericalError, NotEnoughMemoryError, Cancelled.
    """
    # In order, a beginning stands right before something that it begins.
    with_end = bool(ends) and any(b[: len(a)] == a for a, b in itertools.pairwise(sorted(answers)))
    first = log_softmax(row)
    totals = [float(first[answer[0]]) for answer in answers]
    read = [answer if with_end else answer[:-1] for answer in answers]
    longest = cache.length + max(map(len, read))
    if longest > model.config.max_seq_len:
        raise ContextFullError(longest, model.config.max_seq_len)
    if cache.snapshot_bytes:
        cache.snapshot()
    for group in _groups(model, cache, read, room_bytes):
        rows = iter(_pass(model, cache, [read[i] for i in group], cancelled))
        for i in group:
            for place in range(len(read[i])):
                logprobs = log_softmax(next(rows))
                following = answers[i][place + 1 :][:1]
                if following:
                    totals[i] += float(logprobs[following[0]])
                else:
                    totals[i] += float(np.logaddexp.reduce(logprobs[list(ends)]))
    values = np.array(totals)
    shares = np.exp(values - np.logaddexp.reduce(values))
    return [
        ScoredAnswer(tuple(answer), total, float(share))
        for answer, total, share in zip(answers, totals, shares, strict=True)
    ]


def log_softmax(row: F32) -> NDArray[np.float64]:
    """(vocab_size,) natural log-probabilities. Raises NumericalError for NaN or infinity."""
    logits = row.astype(np.float64)
    if not np.isfinite(logits).all():
        raise NumericalError("the model's logits contain NaN or infinity; the weights may be damaged")
    logits -= np.logaddexp.reduce(logits)
    return logits


def _groups(
    model: Model, cache: Cache, read: Sequence[Answer], room_bytes: int | None
) -> Iterator[list[int]]:
    """The places of the answers that are read in each pass: as many as a pass and the memory take."""
    position_bytes = cache.nbytes / max(1, cache.capacity)
    group: list[int] = []
    tokens = nbytes = 0
    for i, ids in enumerate(read):
        if not ids:
            continue
        needed = int((cache.length + len(ids)) * position_bytes)
        too_many = tokens + len(ids) > model.prefill_chunk
        if group and (too_many or (room_bytes is not None and nbytes + needed > room_bytes)):
            yield group
            group, tokens, nbytes = [], 0, 0
        group.append(i)
        tokens, nbytes = tokens + len(ids), nbytes + needed
    if group:
        yield group


def _pass(
    model: Model, cache: Cache, read: Sequence[Answer], cancelled: Callable[[], bool] | None
) -> list[F32]:
    """The logits after each token of each answer, in order; each row (vocab_size,)."""
    sequences = []
    for ids in read:
        own = model.new_cache(cache.length + len(ids))
        own.copy_prefix(cache, cache.length)
        sequences.append((np.asarray(ids, dtype=np.int32), own))
    with without_warnings():
        if isinstance(model, BatchModel) and sum(map(len, read)) <= model.prefill_chunk:
            return list(model.forward_batch(sequences, logits="all", cancelled=cancelled))
        rows: list[F32] = []
        for token_ids, own in sequences:
            for start in range(0, len(token_ids), model.prefill_chunk):
                part = token_ids[start : start + model.prefill_chunk]
                rows += model.forward(part, own, logits="all", cancelled=cancelled).copy()
        return rows
