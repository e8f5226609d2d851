"""Time per operation and layer of the NumPy model, measured from outside.

The model holds no timers: while `timed_operations` is open, the functions it calls are replaced by wrappers
that look at the clock, and afterwards they are put back, so that nothing is paid when nobody looks.

Each second is counted once, for the innermost operation that was running:

    _attend ─┬─ rms_norm            -> norm
             ├─ linear (qkv)        -> attention products
             ├─ SequencePass.run    -> attention (scores, softmax, mixing)
             │     └─ rotate        -> RoPE
             └─ linear (o_proj)     -> attention products
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from llama_core import heads, model, sampling

OPERATIONS = (
    "attention products",
    "attention",
    "RoPE",
    "feed-forward products",
    "feed-forward",
    "norm",
    "head",
    "sampler",
    "the rest of a pass",
)
NO_LAYER = -1


class OpTimers:
    """Seconds by (operation, layer); layer NO_LAYER for what belongs to none."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, int], float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._layer = NO_LAYER
        self._open: list[tuple[str, float]] = []  # operations under way, and the seconds inside each

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.seconds.clear()
        self.calls.clear()

    def total(self, operation: str) -> float:
        """Seconds of one operation over all layers."""
        return sum(seconds for (name, _), seconds in self.seconds.items() if name == operation)

    def by_layer(self, operation: str) -> dict[int, float]:
        """Seconds of one operation, layer by layer."""
        return {layer: s for (name, layer), s in sorted(self.seconds.items()) if name == operation}

    def wrap(self, name: str, function: Callable[..., Any], *, layer: str = "") -> Callable[..., Any]:
        """`function` with a clock around it. layer "first" takes the first argument (after self) as the
        layer's number; "none" says that what runs inside belongs to no layer. A name that starts with a
        space is added to the operation it runs in."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            if layer == "first":
                self._layer = int(arguments[1])
            elif layer == "none":
                self._layer = NO_LAYER
            outer = self._open[-1][0] if self._open else ""
            own = outer + name if name.startswith(" ") and outer in ("attention", "feed-forward") else name
            own = outer if own.startswith(" ") else own
            self._open.append((own, 0.0))
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                elapsed = time.perf_counter() - start
                _, inside = self._open.pop()
                self.seconds[own, self._layer] += elapsed - inside
                self.calls[own] += 1
                if self._open:
                    above, its_inside = self._open[-1]
                    self._open[-1] = (above, its_inside + elapsed)

        return timed


@contextlib.contextmanager
def timed_operations() -> Iterator[OpTimers]:
    """Replace the model's operations by timed ones for the `with` block, in the whole process."""
    timers = OpTimers()
    places: tuple[tuple[Any, str, str, str], ...] = (
        (model.Llama, "_pass", "the rest of a pass", "none"),
        (model.Llama, "_attend", "attention", "first"),
        (model.Llama, "_feed_forward", "feed-forward", ""),
        (model.Llama, "_head", "head", "none"),
        (model, "linear", " products", ""),
        (model, "rms_norm", "norm", ""),
        (heads, "rms_norm", "norm", ""),
        (heads, "rotate", "RoPE", ""),
        (sampling.Sampler, "draw", "sampler", "none"),
    )
    kept = [(place, attribute, getattr(place, attribute)) for place, attribute, _, _ in places]
    try:
        for place, attribute, name, layer in places:
            setattr(place, attribute, timers.wrap(name, getattr(place, attribute), layer=layer))
        yield timers
    finally:
        for place, attribute, original in kept:
            setattr(place, attribute, original)
