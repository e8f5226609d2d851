"""Experiment 5: the three float64 leaks, closed one at a time and together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from llama_core.checkpoint import Checkpoint
from llama_core.profiling.first_version.model import BaselineLlama, Leaks
from llama_core.profiling.lab.experiment import Case, Claim, Experiment, LabContext, arrays_match
from llama_core.profiling.lab.experiments.models import stories_checkpoint

OPEN = Leaks()
CLOSED = Leaks(rope=False, cache=False, mask=False)
PROMPT_N = 64
# A decode step has no mask: the mask alone must make no difference to it, and shows what the clock makes.
CONTROL = Claim(0.9, 1.1)

# One leak closed while two stay open changes nothing: what one lets through, the next would have let in.
# One leak open while two are closed shows what each costs by itself.
CONFIGURATIONS: tuple[tuple[str, Leaks, Leaks, Claim, Claim], ...] = (
    ("all three closed", OPEN, CLOSED, Claim(2.0), Claim(2.0)),
    ("only RoPE tables closed", OPEN, replace(OPEN, rope=False), Claim(0.9, 1.5), Claim(0.9, 1.5)),
    ("only cache closed", OPEN, replace(OPEN, cache=False), Claim(0.9, 1.5), Claim(0.9, 1.5)),
    ("only mask closed", OPEN, replace(OPEN, mask=False), Claim(0.9, 1.5), CONTROL),
    ("RoPE tables the last to close", replace(CLOSED, rope=True), CLOSED, Claim(2.0), Claim(2.0)),
    ("cache the last to close", replace(CLOSED, cache=True), CLOSED, Claim(2.0), Claim(2.0)),
    ("mask the last to close", replace(CLOSED, mask=True), CLOSED, Claim(2.0), CONTROL),
)


WHY = {
    True: "nothing behind is float64 any more: products convert no weights, and move half the bytes",
    False: "the leaks that stay open make float64 of everything behind them all the same",
}


class Lazy:
    """The model with these leaks, made at its first use, its cache filled with the prompt: a process that
    measures one row makes two models and not all."""

    def __init__(self, checkpoint: Checkpoint, leaks: Leaks) -> None:
        self._make = partial(BaselineLlama, checkpoint, 256, leaks=leaks)
        self._model: BaselineLlama | None = None

    def __call__(self) -> BaselineLlama:
        """The model; the first call makes it and computes the prompt."""
        if self._model is None:
            self._model = self._make()
            forward(self, 0, PROMPT_N)
        return self._model


def forward(lazy: Lazy, start: int, n: int) -> np.ndarray:
    """Logits (1, 1, vocab_size) of n tokens from position `start` on."""
    model = lazy()
    ids = (np.arange(start, start + n) * 37 % model.config.vocab_size)[None]
    result: np.ndarray = model(ids, start)
    return result


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
    checkpoint: Checkpoint = stories_checkpoint(context)
    for name, before_leaks, after_leaks, prefill_claim, decode_claim in CONFIGURATIONS:
        before, after = Lazy(checkpoint, before_leaks), Lazy(checkpoint, after_leaks)
        for phase, start, n, claim in (
            (f"prefill {PROMPT_N}", 0, PROMPT_N, prefill_claim),
            ("decode", PROMPT_N, 1, decode_claim),
        ):
            yield Case(
                name=f"control: {phase}, {name}" if claim is CONTROL else f"{phase}: {name}",
                before=partial(forward, before, start, n),
                after=partial(forward, after, start, n),
                claim=claim,
                check=arrays_match(1e-4),
                work=n,
                unit="tok",
                headline=after_leaks == CLOSED and before_leaks == OPEN,
                budget_s=context.budget_s * 2 / 3,
                why="" if claim is CONTROL else WHY[after_leaks == CLOSED],
            )


EXPERIMENT = Experiment(
    number=5,
    name="dtype",
    title="dtype discipline: three float64 leaks",
    hypothesis="The RoPE tables, the cache from np.zeros and the mask each turn everything behind them into "
    "float64, and every product then converts its weights again: closing all three brings at least 2x, and "
    "so does closing the last one; closing one while others stay open brings little (0.9x to 1.5x). The mask "
    "alone makes no difference to a decode step, which has none (control: 0.9x to 1.1x)",
    refuted_if="all three closed or the last one closed brings less than 2x, one alone leaves 0.9x to 1.5x, "
    "a control leaves 0.9x to 1.1x, or logits differ by more than 1e-4 of the largest",
    cases=cases,
    processes=3,
)
