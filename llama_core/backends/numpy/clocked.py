"""The NumPy model's operations with a clock around each, for whoever watches or profiles.

They follow each other, none within another:

    norm, attention products, RoPE, attention, attention products, norm, feed-forward products, feed-forward
    (the activation), feed-forward products; behind the last layer norm and head
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from llama_core.backends.numpy.decoder import PLAIN, Operations

Function = Callable[..., Any]
# (what people call an operation, its layer, the function) -> the function, clocked.
Wrap = Callable[[str, int, Function], Function]
# What people call the operations.
NAMES = {
    "norm": "norm",
    "attention_product": "attention products",
    "norm_and_rotate": "RoPE",
    "attend": "attention",
    "recur": "attention",
    "feed_forward_product": "feed-forward products",
    "gated": "feed-forward",
    "head_product": "head",
}


def clocked(wrap: Wrap, layer: int, plain: Operations = PLAIN) -> Operations:
    """The operations of a layer, each as `wrap` makes it."""
    functions = {f.name: getattr(plain, f.name) for f in fields(Operations)}
    return Operations(**{name: wrap(NAMES[name], layer, f) for name, f in functions.items()})
