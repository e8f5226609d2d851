"""The weights of the NumPy model: float32, each shape checked once, products that share an input fused.

q, k and v read the same vector, and so do gate and up. Their rows are put into one matrix each, which makes
two products out of five and gives the BLAS longer runs (their biases, where there are any, alike):

    qkv_proj                                  gate_up_proj
    [ q_proj   n_heads * head_dim rows    ]   [ gate_proj  hidden_dim rows ]
    [ k_proj   n_kv_heads * head_dim rows ]   [ up_proj    hidden_dim rows ]
    [ v_proj   n_kv_heads * head_dim rows ]

The file's blocks are dequantised straight into these matrices, so that no second copy ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe, tensor_specs
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.events import LoadProgress
from llama_core.memory import require_memory
from llama_core.quant.dequantize import dequantize

F32 = NDArray[np.float32]

# Values per piece of work: small enough that a piece's temporaries stay in the cache of a core.
_PIECE = 1 << 19


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One transformer block; the rows of a matrix are its outputs. None where the model has no such thing.

    input_layernorm, post_attention_layernorm: (dim,); qkv_proj: (q_dim + 2 kv_dim, dim);
    q_norm, k_norm: (head_dim,); o_proj: (dim, q_dim); gate_up_proj: (2 hidden_dim, dim);
    down_proj: (dim, hidden_dim); each bias: (rows of its matrix,).
    """

    input_layernorm: F32
    qkv_proj: F32
    qkv_bias: F32 | None
    q_norm: F32 | None
    k_norm: F32 | None
    o_proj: F32
    o_bias: F32 | None
    post_attention_layernorm: F32
    gate_up_proj: F32
    gate_up_bias: F32 | None
    down_proj: F32
    down_bias: F32 | None


@dataclass(frozen=True, slots=True, eq=False)
class ModelWeights:
    """embed_tokens: (vocab_size, dim); norm: (dim,); lm_head: (vocab_size, dim), the same array as
    embed_tokens where they are tied; rope_freqs: (n_rotated / 2,) divisors or None."""

    embed_tokens: F32
    layers: tuple[LayerWeights, ...]
    norm: F32
    lm_head: F32
    rope_freqs: F32 | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, a tied head counted once."""
        arrays = {id(a): a.nbytes for a in self._arrays()}
        return sum(arrays.values())

    def _arrays(self) -> Iterator[F32]:
        holders: tuple[ModelWeights | LayerWeights, ...] = (self, *self.layers)
        for holder in holders:
            for field in fields(holder):
                value = getattr(holder, field.name)
                if isinstance(value, np.ndarray):
                    yield value


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


def empty_weights(config: ModelConfig, present: Collection[str] = ()) -> ModelWeights:
    """Uninitialised arrays of every shape that `config` asks for, and for the optional tensors that are
    `present` (names as in checkpoint.py). Raises NotEnoughMemoryError before allocating what would not fit.
    """
    counted = _Arena()
    _cut(counted, config, present)
    require_memory("The weights in float32", 4 * counted.used, "a smaller model would work")
    return _cut(_Arena(np.empty(counted.used, dtype=np.float32)), config, present)


def _cut(arena: _Arena, config: ModelConfig, present: Collection[str]) -> ModelWeights:
    new = arena.new
    biases = {spec.name.split(".", 2)[-1] for spec in tensor_specs(config, present)}
    qkv_dim = config.q_dim + 2 * config.kv_dim
    layers = tuple(
        LayerWeights(
            input_layernorm=new(config.dim),
            qkv_proj=new(qkv_dim, config.dim),
            qkv_bias=new(qkv_dim) if config.attention_bias else None,
            q_norm=new(config.head_dim) if config.qk_norm else None,
            k_norm=new(config.head_dim) if config.qk_norm else None,
            o_proj=new(config.dim, config.q_dim),
            o_bias=new(config.dim) if "o_proj.bias" in biases else None,
            post_attention_layernorm=new(config.dim),
            gate_up_proj=new(2 * config.hidden_dim, config.dim),
            gate_up_bias=new(2 * config.hidden_dim) if "gate_proj.bias" in biases else None,
            down_proj=new(config.dim, config.hidden_dim),
            down_bias=new(config.dim) if "down_proj.bias" in biases else None,
        )
        for _ in range(config.n_layers)
    )
    embed_tokens = new(config.vocab_size, config.dim)
    return ModelWeights(
        embed_tokens=embed_tokens,
        layers=layers,
        norm=new(config.dim),
        lm_head=embed_tokens if config.tie_embeddings else new(config.vocab_size, config.dim),
        rope_freqs=new(config.n_rotated // 2) if "rope_freqs" in present else None,
    )


def named_slots(config: ModelConfig, weights: ModelWeights) -> dict[str, F32]:
    """Where each tensor of a checkpoint belongs: its name (checkpoint.py) and a view of our arrays."""
    q, k = config.q_dim, config.q_dim + config.kv_dim
    slots = {"embed_tokens": weights.embed_tokens, "norm": weights.norm}
    if not config.tie_embeddings:
        slots["lm_head"] = weights.lm_head
    if weights.rope_freqs is not None:
        slots["rope_freqs"] = weights.rope_freqs
    for i, layer in enumerate(weights.layers):
        found: dict[str, F32 | None] = {
            "input_layernorm": layer.input_layernorm,
            "q_proj": layer.qkv_proj[:q],
            "k_proj": layer.qkv_proj[q:k],
            "v_proj": layer.qkv_proj[k:],
            "q_norm": layer.q_norm,
            "k_norm": layer.k_norm,
            "o_proj": layer.o_proj,
            "o_proj.bias": layer.o_bias,
            "post_attention_layernorm": layer.post_attention_layernorm,
            "gate_proj": layer.gate_up_proj[: config.hidden_dim],
            "up_proj": layer.gate_up_proj[config.hidden_dim :],
            "down_proj": layer.down_proj,
            "down_proj.bias": layer.down_bias,
        }
        if layer.qkv_bias is not None:
            found["q_proj.bias"] = layer.qkv_bias[:q]
            found["k_proj.bias"] = layer.qkv_bias[q:k]
            found["v_proj.bias"] = layer.qkv_bias[k:]
        if layer.gate_up_bias is not None:
            found["gate_proj.bias"] = layer.gate_up_bias[: config.hidden_dim]
            found["up_proj.bias"] = layer.gate_up_bias[config.hidden_dim :]
        slots |= {f"layers.{i}.{name}": view for name, view in found.items() if view is not None}
    return slots


def load_weights(
    checkpoint: Checkpoint,
    on_progress: Callable[[LoadProgress], None] | None = None,
    threads: int = 2,
) -> ModelWeights:
    """Dequantise a whole checkpoint. NumPy releases the interpreter's lock on long arrays: `threads` help.

    Raises ModelFormatError for a tensor that is missing or has the wrong shape, NotEnoughMemoryError.
    """
    config = checkpoint.config
    if len(set(describe(config).layers)) > 1:
        raise UnsupportedModelError(checkpoint.path, "config", "its layers are not all alike")
    weights = empty_weights(config, checkpoint.tensors.keys())
    slots = named_slots(config, weights)
    for name, slot in slots.items():
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            raise ModelFormatError(checkpoint.path, name, "this tensor is missing")
        if tensor.shape != slot.shape:
            raise ModelFormatError(checkpoint.path, name, f"its shape is {tensor.shape}, not {slot.shape}")

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
        except BaseException:
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
    for name, slot in named_slots(config, weights).items():
        rng.standard_normal(out=slot, dtype=np.float32)
        if slot.ndim == 2:
            slot *= 1.0 / np.sqrt(np.float32(slot.shape[1]))
        else:
            slot *= 0.1
            if "norm" in name:
                slot += 1.0
    return weights
