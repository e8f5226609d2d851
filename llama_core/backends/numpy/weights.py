"""The weights of the NumPy model: float32, each shape checked once, products that share an input fused.

q, k and v read the same vector, and so do gate and up. Their rows are put into one matrix each, which makes
two products out of five and gives the BLAS longer runs (their biases, where there are any, alike):

    in_proj                                   gate_up_proj
    [ q_proj   n_heads * head_dim rows    ]   [ gate_proj  hidden_dim rows ]
    [ k_proj   n_kv_heads * head_dim rows ]   [ up_proj    hidden_dim rows ]
    [ v_proj   n_kv_heads * head_dim rows ]

The file's blocks are dequantised straight into these matrices, so that no second copy ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe, tensor_specs
from llama_core.architectures.base import Experts, TensorSpec
from llama_core.backends.numpy.experts import (
    EXPERT_TENSORS,
    FeedForwardWeights,
    LayerExperts,
    UnpackedExperts,
    bytes_of_a_token,
    expert_places,
    is_of_expert,
)
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError
from llama_core.events import LoadProgress
from llama_core.memory import available_bytes, require_memory
from llama_core.quant.dequantize import dequantize

F32 = NDArray[np.float32]

# Values per piece of work: small enough that a piece's temporaries stay in the cache of a core.
_PIECE = 1 << 19
# Our tensors that stand in one matrix, by the last part of their names.
_FUSED = dict.fromkeys(("q_proj", "k_proj", "v_proj"), "in_proj")
_FUSED |= dict.fromkeys(("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"), "in_proj")
_FUSED |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}


@dataclass(frozen=True, slots=True, eq=False)
class AttentionWeights:
    """q_norm, k_norm: (head_dim,) or (q_dim,) and (kv_dim,); sinks: (n_heads,)."""

    q_norm: F32 | None
    k_norm: F32 | None
    sinks: F32 | None


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentWeights:
    """conv: (conv_dim, kernel); conv_bias: (conv_dim,); dt_bias, decay, skip: (n_heads,); state_norm:
    (head_dim,) or (out_dim,)."""

    conv: F32
    conv_bias: F32 | None
    dt_bias: F32 | None
    decay: F32 | None
    skip: F32 | None
    state_norm: F32 | None


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One transformer block; the rows of a matrix are its outputs. None where the model has no such thing.

    The four norms: (dim,); in_proj: what the mixer reads of the normed input, (q_dim + 2 kv_dim, dim) for
    attention; o_proj: (dim, q_dim); router: (n experts, dim); each bias: (rows of its matrix,).
    feed_forwards: one, or one for each expert, which a loaded model unpacks when it is taken.
    """

    input_layernorm: F32 | None
    in_proj: F32
    in_bias: F32 | None
    mixer: AttentionWeights | RecurrentWeights
    o_proj: F32
    o_bias: F32 | None
    attention_out_norm: F32 | None
    post_attention_layernorm: F32 | None
    router: F32 | None
    router_bias: F32 | None
    feed_forwards: Sequence[FeedForwardWeights]
    feed_forward_out_norm: F32 | None


@dataclass(frozen=True, slots=True, eq=False)
class ModelWeights:
    """embed_tokens: (vocab_size, dim); norm: (dim,); lm_head: (vocab_size, dim), the same array as
    embed_tokens where they are tied; rope_freqs: (n_rotated / 2,) divisors or None. slots: where each tensor
    of a checkpoint stands, by its name: views of these arrays. own_bytes: of these, a tied head counted once.
    unpacked: the experts that are copied now; mapped_bytes: of those in the file."""

    embed_tokens: F32
    layers: tuple[LayerWeights, ...]
    norm: F32
    lm_head: F32
    rope_freqs: F32 | None
    slots: Mapping[str, F32]
    own_bytes: int
    unpacked: UnpackedExperts
    mapped_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.own_bytes + self.unpacked.nbytes


class _Arena:
    """One run of memory that arrays are cut from, each on a cache line of its own.

    As one large array the weights lie in huge pages where the system gives them (NumPy asks for these from
    4 MiB on, more than most matrices have), which made products 1.05 to 1.1 times as fast. A first pass
    with `values` None only counts.
    """

    _LINE = 16  # float32 values

    def __init__(self, values: F32 | None = None) -> None:
        self._values = values
        self.used = 0

    def new(self, *shape: int) -> F32:
        start, size = self.used, math.prod(shape)
        self.used += -(-size // self._LINE) * self._LINE
        if self._values is None:
            return np.broadcast_to(np.float32(0), shape)
        return self._values[start : start + size].reshape(shape)


def empty_weights(
    config: ModelConfig, present: Collection[str] = (), experts: Mapping[str, Tensor] | None = None
) -> ModelWeights:
    """Uninitialised arrays of every shape that `config` asks for, and for the optional tensors that are
    `present` (by our names). experts: the tensors of experts, which stay where they are until they are taken;
    None: they have arrays like all others. Raises NotEnoughMemoryError before allocating what would not fit.
    """
    left = experts or {}
    counted = _Arena()
    _cut(counted, config, present, left, UnpackedExperts(0))
    taken = bytes_of_a_token(config) if left else 0
    require_memory("The weights in float32", 4 * counted.used + taken, "a smaller model would work")
    room = max(taken, (available_bytes() - 4 * counted.used) // 2) if left else 0
    arena = _Arena(np.empty(counted.used, dtype=np.float32))
    return _cut(arena, config, present, left, UnpackedExperts(room))


def _cut(
    arena: _Arena,
    config: ModelConfig,
    present: Collection[str],
    left: Mapping[str, Tensor],
    unpacked: UnpackedExperts,
) -> ModelWeights:
    together: dict[str, list[TensorSpec]] = {}
    for spec in tensor_specs(config, present):
        if spec.name not in left:
            together.setdefault(_array_of(spec.name), []).append(spec)
    arrays: dict[str, F32] = {}
    slots: dict[str, F32] = {}
    for name, specs in together.items():
        rows = [spec.shape[0] for spec in specs]
        arrays[name] = arena.new(sum(rows), *specs[0].shape[1:])
        ends = np.cumsum(rows).tolist()
        slots |= {s.name: arrays[name][end - n : end] for s, n, end in zip(specs, rows, ends, strict=True)}
    return ModelWeights(
        embed_tokens=arrays["embed_tokens"],
        layers=tuple(
            _layer(arrays, i, _feed_forwards(arrays, i, layer.feed_forward.experts, left, unpacked))
            for i, layer in enumerate(describe(config).layers)
        ),
        norm=arrays["norm"],
        lm_head=arrays.get("lm_head", arrays["embed_tokens"]),
        rope_freqs=arrays.get("rope_freqs"),
        slots=slots,
        own_bytes=sum(array.nbytes for array in arrays.values()),
        unpacked=unpacked,
        mapped_bytes=sum(tensor.nbytes for tensor in left.values()),
    )


def _array_of(name: str) -> str:
    """The array in which a tensor stands: "layers.3.q_proj.bias" -> "layers.3.in_bias"."""
    *prefix, part = name.removesuffix(".bias").split(".")
    part = _FUSED.get(part, part)
    if name.endswith(".bias"):
        part = part.removesuffix("_proj") + "_bias"
    return ".".join((*prefix, part))


def _feed_forwards(
    arrays: Mapping[str, F32],
    i: int,
    experts: Experts | None,
    left: Mapping[str, Tensor],
    unpacked: UnpackedExperts,
) -> Sequence[FeedForwardWeights]:
    """Layer i's feed-forward, or its experts, from arrays or from the tensors that are `left`."""
    places = [f"layers.{i}."] if experts is None else expert_places(i, experts.n)
    if experts is not None and left:
        tensors = [{name: left[at + name] for name in EXPERT_TENSORS if at + name in left} for at in places]
        return LayerExperts(i, tensors, unpacked)
    return tuple(
        FeedForwardWeights(
            gate_up_proj=arrays[at + "gate_up_proj"],
            gate_up_bias=arrays.get(at + "gate_up_bias"),
            down_proj=arrays[at + "down_proj"],
            down_bias=arrays.get(at + "down_bias"),
        )
        for at in places
    )


def _layer(arrays: Mapping[str, F32], i: int, feed_forwards: Sequence[FeedForwardWeights]) -> LayerWeights:
    prefix, get = f"layers.{i}.", arrays.get
    return LayerWeights(
        input_layernorm=get(prefix + "input_layernorm"),
        in_proj=arrays[prefix + "in_proj"],
        in_bias=get(prefix + "in_bias"),
        mixer=_mixer(get, prefix),
        o_proj=arrays[prefix + "o_proj"],
        o_bias=get(prefix + "o_bias"),
        attention_out_norm=get(prefix + "attention_out_norm"),
        post_attention_layernorm=get(prefix + "post_attention_layernorm"),
        router=get(prefix + "router"),
        router_bias=get(prefix + "router_bias"),
        feed_forwards=feed_forwards,
        feed_forward_out_norm=get(prefix + "feed_forward_out_norm"),
    )


def _mixer(get: Callable[[str], F32 | None], prefix: str) -> AttentionWeights | RecurrentWeights:
    conv = get(prefix + "conv")
    if conv is None:
        return AttentionWeights(get(prefix + "q_norm"), get(prefix + "k_norm"), get(prefix + "sinks"))
    return RecurrentWeights(
        conv=conv,
        conv_bias=get(prefix + "conv_bias"),
        dt_bias=get(prefix + "dt_bias"),
        decay=get(prefix + "decay"),
        skip=get(prefix + "skip"),
        state_norm=get(prefix + "state_norm"),
    )


def load_weights(
    checkpoint: Checkpoint,
    on_progress: Callable[[LoadProgress], None] | None = None,
    threads: int = 2,
) -> ModelWeights:
    """Dequantise a whole checkpoint but its experts, which are unpacked when a token takes them.
    NumPy releases the interpreter's lock on long arrays: `threads` help.

    Raises ModelFormatError for a tensor that is missing or has the wrong shape, NotEnoughMemoryError.
    """
    config = checkpoint.config
    experts: dict[str, Tensor] = {}
    for spec in tensor_specs(config, checkpoint.tensors.keys()):
        name, tensor = spec.name, checkpoint.tensors.get(spec.name)
        if tensor is None:
            raise ModelFormatError(checkpoint.path, name, "this tensor is missing")
        if tensor.shape != spec.shape:
            raise ModelFormatError(checkpoint.path, name, f"its shape is {tensor.shape}, not {spec.shape}")
        if is_of_expert(name):
            experts[name] = tensor
    weights = empty_weights(config, checkpoint.tensors.keys(), experts)
    slots = weights.slots

    total = sum(checkpoint.tensors[name].nbytes for name in slots)
    done = 0
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="load-weights") as pool:
        pieces = [
            pool.submit(_fill, checkpoint.tensors[name], slot, start, stop)
            for name, slot in slots.items()
            for start, stop in _pieces(slot)
        ]
        try:
            for piece in as_completed(pieces):
                done += piece.result()
                if on_progress is not None:
                    on_progress(LoadProgress("weights", done, total))
        except BaseException:  # Ctrl+C too: what waits is not begun
            pool.shutdown(cancel_futures=True)
            raise
    return weights


def _pieces(slot: F32) -> Iterator[tuple[int, int]]:
    """Row ranges of a matrix, of about _PIECE values each; a vector is one piece."""
    if slot.ndim == 1:
        yield 0, 1
        return
    n_rows, n_columns = slot.shape
    step = max(1, _PIECE // n_columns)
    for start in range(0, n_rows, step):
        yield start, min(n_rows, start + step)


def _fill(tensor: Tensor, slot: F32, start: int, stop: int) -> int:
    """Dequantise rows start..stop into our array; returns the bytes of the file that this took."""
    if slot.ndim == 1:
        tensor.to_float32(out=slot)
        return tensor.nbytes
    dequantize(tensor.rows(start, stop), tensor.fmt, out=slot[start:stop])
    return int(tensor.raw.shape[1]) * (stop - start)


def random_weights(config: ModelConfig, seed: int = 0, present: Collection[str] = ()) -> ModelWeights:
    """Weights of a model that says nothing sensible, for tests and for measuring shapes without a file.

    Drawn so that activations keep their size through the layers. present: as for `empty_weights`.
    """
    rng = np.random.default_rng(seed)
    weights = empty_weights(config, present)
    for name in sorted(weights.slots, key=lambda name: name.startswith("layers.")):
        slot = weights.slots[name]
        rng.standard_normal(out=slot, dtype=np.float32)
        if slot.ndim == 2:
            slot *= 1.0 / np.sqrt(np.float32(slot.shape[1]))
        else:
            slot *= 0.1
            if "norm" in name or name.endswith(".decay"):
                slot += 1.0
            if name.endswith(".decay"):  # a state that grew would have no bound
                np.negative(slot, out=slot)
    return weights
