"""The kernel that chooses a token's experts from the scores of its router."""

from __future__ import annotations

from llama_core.backends.jit.control.records import CHOICE_BYTES, CHOICE_SHARE
from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import F32, I32, I64, Code, F32x16, I32x16, Value
from llama_core.backends.jit.kernels.operations import maximum, reduce_lanes, select
from llama_core.backends.jit.kernels.vector import exponential

LOWEST = -1e30  # what a score counts as at least
TAKEN = -2e30
TOP = 1 << 30


@kernel()
def choose(code: Code, scores: Value, n: Value, n_used: Value, over_all: Value, choices: Value) -> None:
    """The `n_used` highest of `n` scores, of equal ones the first, and their shares by softmax.

    scores: (n padded to 16,) float32, overwritten. over_all: 1 for a softmax over all scores, 0 over those
    that are chosen. choices: n_used records `Choice`, the highest score first. A NaN or infinity among the
    scores makes every share NaN, so that it reaches the logits.
    """
    padded = (n + 15) / 16 * 16
    lowest, taken = code.splat(F32x16, LOWEST), code.splat(F32x16, TAKEN)
    zeros = code.splat(F32x16, 0.0)
    broken = code.var(zeros)
    with code.loop(0, padded, 16) as i:
        score = code.load(F32x16, scores + i * 4)
        is_score = _lanes(code, i).compare("<", n.to(I32).splat())
        broken.set(broken.get() + select(is_score, score * 0.0, zeros))
        score = select(score.compare(">", LOWEST), score, lowest)
        code.store(select(is_score, score, taken), scores + i * 4)
    top = _highest(code, scores, padded)
    total = code.var(zeros)
    with code.when(over_all.compare("!=", 0)), code.loop(0, padded, 16) as i:
        total.set(total.get() + exponential(code.load(F32x16, scores + i * 4) - top))
    total.set(reduce_lanes(total.get(), Value.__add__).splat())
    with code.loop(0, n_used) as k:
        best = _highest(code, scores, padded)
        found = code.var(code.splat(I32x16, 0))
        with code.loop(0, padded, 16) as i:
            here = code.load(F32x16, scores + i * 4).compare("==", best)
            place = code.splat(I32x16, TOP) - _lanes(code, i)
            found.set(maximum(select(here, place, code.splat(I32x16, 0)), found.get()))
        expert = code.splat(I32, TOP) - reduce_lanes(found.get(), maximum)
        code.store(code.splat(F32, TAKEN), scores + expert.to(I64) * 4)
        share = exponential(best - top)
        code.store(expert.to(I64), choices + k * CHOICE_BYTES)
        code.store(share.lane(0), choices + k * CHOICE_BYTES + CHOICE_SHARE)
        with code.when(over_all.compare("==", 0)):
            total.set(total.get() + share)
    whole = total.get().lane(0) + reduce_lanes(broken.get(), Value.__add__)
    with code.loop(0, n_used) as k:
        at = choices + k * CHOICE_BYTES + CHOICE_SHARE
        code.store(code.load(F32, at) / whole, at)


def _lanes(code: Code, first: Value) -> Value:
    """The numbers of sixteen scores from `first` on, int32."""
    return code.lane_numbers(16) + first.to(I32).splat()


def _highest(code: Code, scores: Value, padded: Value) -> Value:
    """The highest score, in every lane."""
    highest = code.var(code.splat(F32x16, TAKEN))
    with code.loop(0, padded, 16) as i:
        highest.set(maximum(code.load(F32x16, scores + i * 4), highest.get()))
    return reduce_lanes(highest.get(), maximum).splat()
