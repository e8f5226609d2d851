"""The position slip's costs, on one model that is switched between with and without."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from llama_core.checkpoint import Checkpoint
from llama_core.profiling.first_version.model import BaselineLlama
from llama_core.profiling.lab.experiments.position_slip import greedy, perplexity, slip_sentence

PROMPT = [3, 141, 59, 26, 53, 58, 97, 93]
TEXT = [*PROMPT, 23, 84, 62, 64, 33, 83, 27]


def test_one_model_switched_is_two_models(toy_checkpoint: Checkpoint) -> None:
    model = BaselineLlama(toy_checkpoint, 64)
    for slip in (False, True, False):
        other = BaselineLlama(toy_checkpoint, 64, position_slip=slip)
        assert greedy(model, PROMPT, 24, slip=slip) == list(other.generate(PROMPT, 24))


def test_perplexity_is_that_of_the_text_computed_as_a_whole(toy_checkpoint: Checkpoint) -> None:
    nats = []
    for n in range(len(PROMPT), len(TEXT)):
        scores = BaselineLlama(toy_checkpoint, 64)(np.array([TEXT[:n]]), 0)[0, -1]
        nats.append(math.log(np.exp(scores).sum()) - scores[TEXT[n]])
    model = BaselineLlama(toy_checkpoint, 64)
    found = [perplexity(model, TEXT, len(PROMPT), slip=slip) for slip in (True, False)]
    assert found[1] == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-6)
    assert abs(found[0] / found[1] - 1) > 1e-4


def test_the_sentence_tells_both_costs(toy_checkpoint: Checkpoint) -> None:
    sentence = slip_sentence(toy_checkpoint, pairs=2)
    told = re.search(r"(\d+) of 32 greedy.* 128 tokens of Python's language reference", sentence)
    assert told is not None
    assert 0 < int(told[1]) <= 32
