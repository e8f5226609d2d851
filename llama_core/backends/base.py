"""What the engine asks of a model, whichever way it computes: `numpy/` and `jit/` (Numba)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llama_core.config import ModelConfig

Logits = Literal["last", "all", "none"]

NO_LAYER = -1  # of what is in none: the head and its norm


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Where the bytes are. `kv_used_bytes` is the part of `kv_bytes` that holds positions;
    `mapped_bytes` are file pages the kernel may drop (0 once nothing refers to the file);
    `resident_bytes` is the process's resident size as the system counts it; `draft_bytes` is all that a draft
    model holds; `machine_bytes` is what the machine has, or the limit of the container (0: unknown)."""

    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    scratch_bytes: int
    mapped_bytes: int
    resident_bytes: int
    draft_bytes: int = 0
    machine_bytes: int = 0


class Cache(Protocol):
    """What layers know of the positions computed so far: keys and values, or a state.

    A state can only go back to lengths at which `snapshot` was called, and to 0; then `truncate` and
    `copy_prefix` end at the nearest one below, which `length` tells, and the caller computes the rest again.
    """

    @property
    def length(self) -> int:
        """Positions held."""

    @property
    def capacity(self) -> int:
        """Positions that fit."""

    @property
    def nbytes(self) -> int:
        """Bytes reserved, those of snapshots included."""

    @property
    def snapshot_bytes(self) -> int:
        """What a snapshot takes; 0 where every length can be gone back to without."""

    def snapshot(self) -> None:
        """See that this length can be gone back to. The number of snapshots is bounded: older ones give
        way."""

    def reachable(self, length: int) -> int:
        """The greatest length up to `length`, which is held, that can be gone back to."""

    def truncate(self, length: int) -> None:
        """Forget every position from `reachable(length)` on. Raises ValueError when `length` exceeds what is
        held."""

    @property
    def block_positions(self) -> int:
        """Positions that stand together in memory: pieces begin and end between two such blocks."""

    def pieces(self, start: int, stop: int) -> Sequence[NDArray[np.uint8]]:
        """The memory of positions start..stop and of those in the same blocks, to be read and written:
        pieces of the same size, always in the same order."""

    def state(self, length: int) -> NDArray[np.uint8] | None:
        """The snapshot at `length`, as bytes; None where there is none, or none is needed."""

    def adopt(self, length: int, states: Mapping[int, NDArray[np.uint8]]) -> None:
        """The first `length` positions are those that were written into `pieces`. states: snapshots by
        length, that at `length` among them where one is needed. Raises ValueError without it, and where
        `length` does not fit."""

    def copy_prefix(self, source: Self, length: int) -> None:
        """Hold the first `source.reachable(length)` positions of `source`, and nothing else. The bits are the
        same.

        Raises ValueError when `source` holds fewer, and ContextFullError when they do not fit here.
        """


class Model(Protocol):
    """A loaded model."""

    @property
    def config(self) -> ModelConfig:
        """The shapes and numbers that the checkpoint gives."""

    @property
    def backend(self) -> str:
        """For people: "numpy float32", "jit avx512-vnni", ..."""

    @property
    def arithmetic(self) -> str:
        """What the bits of keys, values and logits depend on beside the file, the ids and the context's size:
        two models of one file that say the same compute the same."""

    @property
    def threads(self) -> int:
        """How many threads compute, the caller's included."""

    @property
    def prefill_chunk(self) -> int:
        """How many prompt tokens one `forward` takes best; the engine never passes more."""

    @property
    def weights_bytes(self) -> int:
        """Memory of the weights as they are kept, in bytes."""

    @property
    def scratch_bytes(self) -> int:
        """Memory of the activations and of what is computed beside them, in bytes."""

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the weights that stay in a mapped file."""

    def new_cache(self, capacity: int) -> Cache:
        """An empty cache. Raises NotEnoughMemoryError before allocating what would not fit."""

    def forward(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Compute `token_ids`, shape (n,), at positions cache.length .. cache.length + n and append them.

        Returns float32 logits, valid until the next call: (vocab_size,) for "last", (n, vocab_size) for
        "all", (0,) for "none". `cancelled` is asked between layers: when it answers True, `Cancelled` is
        raised and the cache keeps its length. Raises ContextFullError when the cache cannot hold n more.
        """

    def hidden_states(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """As `forward`, but what the head would take: (n, dim) float32, behind the last layer and its norm,
        the caller's own. Raises as `forward` does."""

    def close(self) -> None:
        """Stop helper threads; the model is unusable afterwards. May be called twice."""


@runtime_checkable
class BatchModel(Protocol):
    """A model that takes several sequences in one pass."""

    def forward_batch(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], Cache]],
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Logits after each sequence's last token, (n_sequences, vocab_size), or for "all" after each token,
        (n, vocab_size); valid until the next call. A sequence has a cache of its own."""


def require_tokens(
    sequences: Sequence[tuple[NDArray[np.int32], Cache]], most: int, vocab_size: int
) -> NDArray[np.int32]:
    """The ids of a pass over all sequences, (n,). Raises ValueError where there are none or more than `most`,
    one that is no token's, a sequence without any, or two sequences that would write into one cache."""
    n = sum(len(ids) for ids, _ in sequences)
    if not 0 < n <= most:
        raise ValueError(f"a pass takes 1 to {most} tokens, not {n}")
    if not all(len(ids) for ids, _ in sequences):
        raise ValueError("a sequence of a pass has no token")
    if len({id(cache) for _, cache in sequences}) < len(sequences):
        raise ValueError("two sequences of a pass have the same cache")
    ids = np.concatenate([ids for ids, _ in sequences]) if len(sequences) > 1 else sequences[0][0]
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"token ids must be 0 to {vocab_size - 1}")
    return ids
