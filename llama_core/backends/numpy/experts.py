"""Experts stay in the file until a token takes one; float32 copies are kept while there is room.

A layer of Qwen3-30B-A3B has 128 experts, of which a token takes eight: all in float32 would be 116 GB, and a
chat reads a small part of them. Whatever room there is, the numbers are the same; without it, an expert that
comes again is unpacked again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe, layer_part
from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig

F32 = NDArray[np.float32]

EXPERT_TENSORS = tuple(f"{name}_proj{bias}" for name in ("gate", "up", "down") for bias in ("", ".bias"))


def expert_places(layer: int, n: int) -> list[str]:
    """What the names of each expert's tensors begin with."""
    return [f"layers.{layer}.experts.{expert}." for expert in range(n)]


def is_of_expert(name: str) -> bool:
    """Whether a tensor, by our name, belongs to one of several experts."""
    return layer_part(name).startswith("experts.")


def bytes_of_a_token(config: ModelConfig) -> int:
    """The matrices of the experts that one token takes, in float32."""
    specs = [layer.feed_forward for layer in describe(config).layers]
    rows = sum(spec.hidden_dim * spec.experts.n_used for spec in specs if spec.experts is not None)
    return 4 * 3 * config.dim * rows


@dataclass(frozen=True, slots=True, eq=False)
class FeedForwardWeights:
    """gate_up_proj: (2 hidden_dim, dim); down_proj: (dim, hidden_dim); each bias: (rows of its matrix,)."""

    gate_up_proj: F32
    gate_up_bias: F32 | None
    down_proj: F32
    down_bias: F32 | None

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        arrays = (self.gate_up_proj, self.gate_up_bias, self.down_proj, self.down_bias)
        return sum(array.nbytes for array in arrays if array is not None)


class UnpackedExperts:
    """The float32 copies of all layers' experts, at most `room` bytes of them; the one that was taken longest
    ago goes first."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: OrderedDict[tuple[int, int], FeedForwardWeights] = OrderedDict()
        self.nbytes = 0

    def get(self, layer: int, expert: int, tensors: Mapping[str, Tensor]) -> FeedForwardWeights:
        """An expert's weights. tensors: its own, "gate_proj" and so on. Raises ModelFormatError where the
        file was cut short since it was opened."""
        key = (layer, expert)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        made = unpacked(tensors)
        while self._held and self.nbytes + made.nbytes > self._room:
            _, oldest = self._held.popitem(last=False)
            self.nbytes -= oldest.nbytes
        self._held[key] = made
        self.nbytes += made.nbytes
        return made


class LayerExperts(Sequence[FeedForwardWeights]):
    """The experts of one layer, as `UnpackedExperts` has them. tensors: of each, by "gate_proj" and so on."""

    def __init__(self, layer: int, tensors: Sequence[Mapping[str, Tensor]], store: UnpackedExperts) -> None:
        self._layer, self._tensors, self._store = layer, tensors, store

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, expert: int) -> FeedForwardWeights:  # type: ignore[override]
        """Float32 weights of one; a slice is never asked for."""
        return self._store.get(self._layer, expert, self._tensors[expert])


def unpacked(tensors: Mapping[str, Tensor]) -> FeedForwardWeights:
    """One expert in float32."""

    def joined(*names: str) -> F32 | None:
        found = [tensors[name] for name in names if name in tensors]
        if not found:
            return None
        rows = sum(tensor.shape[0] for tensor in found)
        array = np.empty((rows, *found[0].shape[1:]), dtype=np.float32)
        start = 0
        for tensor in found:
            tensor.to_float32(out=array[start : start + tensor.shape[0]])
            start += tensor.shape[0]
        return array

    gate_up, down = joined("gate_proj", "up_proj"), joined("down_proj")
    assert gate_up is not None
    assert down is not None
    return FeedForwardWeights(
        gate_up, joined("gate_proj.bias", "up_proj.bias"), down, joined("down_proj.bias")
    )
