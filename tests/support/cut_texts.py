"""A text given to toy models in passes of chosen sizes: what they answer must not depend on the sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint

IDS = (np.arange(150) * 37 % 130).astype(np.int32)


def logits_of(model: Any, *cuts: int) -> NDArray[np.float32]:
    """Of all positions, the ids cut at these."""
    cache = model.new_cache(256)
    ends = [*cuts, len(IDS)]
    parts = zip([0, *cuts], ends, strict=True)
    return np.concatenate([model.forward(IDS[a:b], cache, logits="all").copy() for a, b in parts])


def numpy_logits(checkpoint: Checkpoint) -> NDArray[np.float32]:
    """What the NumPy model makes of the ids."""
    return logits_of(Llama(checkpoint.config, load_weights(checkpoint), threads=1), 100)


def bits_of(toys: SimpleNamespace, checkpoint: Checkpoint) -> NDArray[np.float32]:
    """What the compiled model makes of the ids: the same bits for many tokens, few, or one by one, with
    one thread, two or three, with all logits or the last alone."""
    model = toys.load(checkpoint)
    bits = logits_of(model, 64, 128)
    for cuts in ((1, 2, 5, 17, 60, 100, 101), (40, 52, 116)):
        np.testing.assert_array_equal(logits_of(model, *cuts), bits)
    np.testing.assert_array_equal(logits_of(toys.load(checkpoint, threads=1), 30, 31, 140), bits)
    np.testing.assert_array_equal(logits_of(toys.load(checkpoint, threads=3), 90), bits)
    # Nobody asks for the first tokens' logits: what comes behind their last keys or states is left of them.
    cache = model.new_cache(256)
    model.forward(IDS[:100], cache, logits="none")
    np.testing.assert_array_equal(model.forward(IDS[100:], cache), bits[-1])
    return bits
