"""What the published loop's position slip costs: the baseline with it against the baseline without.

Its decode steps stand one position too far and attend to a hole of zeros behind the prompt. The outputs
differ, which is the point, so there is no row for it: a row's outputs must match.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from llama_core.checkpoint import Checkpoint
from llama_core.profiling.first_version.model import BaselineLlama, Leaks
from llama_core.profiling.statistics import ratio_interval
from llama_core.profiling.texts import language_reference

PROMPT_N = 16
REPLY_N = 32
TEXT_N = 144
PAIRS = 4


def clear(model: BaselineLlama, *, slip: bool) -> None:
    """Begin anew, with or without the slip. What stood in the cache must not fill the hole."""
    model.position_slip = slip
    for block in model.blocks:
        block.attention.cache_k[:] = 0
        block.attention.cache_v[:] = 0


def greedy(model: BaselineLlama, prompt_ids: Sequence[int], n: int, *, slip: bool) -> list[int]:
    """n tokens after the prompt."""
    clear(model, slip=slip)
    return list(model.generate(prompt_ids, n))


def perplexity(model: BaselineLlama, ids: Sequence[int], prompt_n: int, *, slip: bool) -> float:
    """Of the ids behind the first `prompt_n`, fed one by one as the loop feeds its own."""
    clear(model, slip=slip)
    logits = model(np.array([ids[:prompt_n]]), 0)[0, -1]
    nats = []
    for position, token in enumerate(ids[prompt_n:], start=prompt_n):
        scores = logits.astype(np.float64)
        peak = float(scores.max())
        nats.append(peak + math.log(float(np.exp(scores - peak).sum())) - float(scores[token]))
        logits = model(np.array([[token]]), position + int(slip))[0, -1]
    return math.exp(sum(nats) / len(nats))


def slip_sentence(checkpoint: Checkpoint, pairs: int = PAIRS) -> str:
    """Tokens that differ, perplexity, and time, with the slip and without, on Python's language reference."""
    ids = checkpoint.tokenizer.encode(language_reference())[:TEXT_N]
    # Without the float64 leaks, which have nothing to do with it and would take most of the time.
    model = BaselineLlama(checkpoint, TEXT_N + 1, leaks=Leaks(rope=False, cache=False, mask=False))
    replies: dict[bool, list[int]] = {}
    times: dict[bool, list[float]] = {False: [], True: []}
    for i in range(pairs + 1):
        for slip in (False, True) if i % 2 == 0 else (True, False):
            start = time.perf_counter()
            replies[slip] = greedy(model, ids[:PROMPT_N], REPLY_N, slip=slip)
            if i:  # the first pair warms up
                times[slip].append(time.perf_counter() - start)
    differing = sum(a != b for a, b in zip(replies[False], replies[True], strict=True))
    without, with_slip = (perplexity(model, ids, PROMPT_N, slip=slip) for slip in (False, True))
    ratio = ratio_interval(times[False], times[True])
    rest, growth = len(ids) - PROMPT_N, with_slip / without - 1
    return (
        f"the published loop's position slip (off in every row, whose outputs must match): {differing} of "
        f"{REPLY_N} greedy tokens after a prompt of {PROMPT_N} differ; the perplexity of the {rest} tokens "
        f"of Python's language reference behind it goes from {without:.2f} to {with_slip:.2f} "
        f"({growth:+.1%}); a reply takes {1 / ratio.value:.2f} times ({1 / ratio.high:.2f} to "
        f"{1 / ratio.low:.2f}) as long as without"
    )
