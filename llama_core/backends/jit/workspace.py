"""The compiled model's buffers, and the plan that tells the step where they are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.architectures.rope import rope_frequencies
from llama_core.backends.jit.buffers import Arena, address
from llama_core.backends.jit.control import fields
from llama_core.backends.jit.control.products import PANELS_AT_ONCE
from llama_core.backends.jit.layout import (
    ACTIVATION_BLOCK_BYTES,
    BLOCK_POSITIONS,
    PARTIAL_HEAD_BYTES,
    ROW_COUNTS,
    KvKind,
    n_blocks,
)
from llama_core.backends.jit.weights import PackedWeights
from llama_core.config import ModelConfig

# Steps of up to this many tokens of one sequence go the small way (see `step.py`).
SMALL_TOKENS = 4
# From so many tokens per thread on, threads take runs of tokens (`step_wide.py`).
WIDE_TOKENS = 12
# Rows (query heads of some tokens) that attention takes together in a large step: their results and one
# block of keys and values fit the nearest cache.
SPAN_ROWS = 24
# The largest number of a block of activations stands apart (see `layout.py`) where it is more than so many
# times its row's root mean square. On the reference text of 2,000 tokens the model is then 0.0008 nats
# (Kullback-Leibler) from float32's, and 0.0033 if none ever does; of 512 greedy tokens after the reference
# prompts 331 come before the first that differs, else 260. Prefill loses 5 % by it. With 3 for 4 it would be
# 0.0007 nats, and 2 to 3 % slower.
OUTLIER = 4.0
# The input of down_proj: its towering numbers stand elsewhere for every token, so that a branch per token
# and block is often mispredicted.
OUTLIER_HIDDEN = 6.0
_FULL_WINDOW = 1 << 40


def padded(numbers: int) -> int:
    """A width that kernels without remainder loops can take."""
    return -(-numbers // 32) * 32


class Workspace:
    """Memory for up to `max_tokens` tokens in a step.

    x: (max_tokens, padded dim) float32, the residual stream, which the caller fills with embeddings.
    """

    def __init__(
        self, config: ModelConfig, weights: PackedWeights, threads: int, max_tokens: int, *, kv: KvKind
    ) -> None:
        self.config = config
        self.max_tokens = max_tokens
        self.span_tokens = max(1, SPAN_ROWS // (config.n_heads // config.n_kv_heads))
        self.plan = np.zeros(fields.PLAN_WORDS, dtype=np.int64)
        self._arenas: dict[str, Arena] = {}
        self._set_model(config, weights, threads)
        self.plan[fields.KV_KIND] = kv.code
        self.plan[fields.KV_BLOCK_BYTES] = kv.block_bytes(config.head_dim)
        self.shared = self._new("shared", fields.SHARED_BYTES).bytes.view(np.int64)
        self.plan[fields.SHARED] = address(self.shared)
        # Phase 0 is over: the cursors' zeros are thus from an earlier phase than the first.
        self.shared[fields.CURRENT // 8] = self.shared[fields.END // 8] = 1
        self._set_rows(config)
        self._set_scratch(config, threads)
        self._logits_rows = 0
        self.logits: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self.grow_logits(1)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._arenas.values())

    @property
    def memory(self) -> tuple[object, ...]:
        """What owns the memory the plan points to."""
        return (self._arenas,)

    def _new(self, name: str, nbytes: int) -> Arena:
        self._arenas[name] = Arena(nbytes, huge=False)
        return self._arenas[name]

    def _set_model(self, config: ModelConfig, weights: PackedWeights, threads: int) -> None:
        numbers = self._numbers = self._new("numbers", 256).floats(16).reshape(4, 4)
        for record, width in zip(numbers, (config.dim, config.q_dim, config.hidden_dim), strict=False):
            record[:2] = 1.0 / width, config.norm_eps
        self.set_outliers(OUTLIER, OUTLIER_HIDDEN)
        numbers[3] = 1.0 / config.head_dim, config.norm_eps, 1.0 / math.sqrt(config.head_dim), 0.0
        at = address(numbers)
        values = {
            fields.THREADS: threads,
            fields.LAYERS: weights.layers,
            fields.HEAD: weights.head,
            fields.FINAL_NORM: weights.final_norm,
            fields.DIM: padded(config.dim),
            fields.HIDDEN: padded(config.hidden_dim),
            fields.Q_DIM: padded(config.q_dim),
            fields.N_KV_HEADS: config.n_kv_heads,
            fields.GROUP: config.n_heads // config.n_kv_heads,
            fields.HEAD_DIM: config.head_dim,
            fields.HALF: config.n_rotated // 2,
            fields.WINDOW: config.sliding_window or _FULL_WINDOW,
            fields.DIM_NUMBERS: at,
            fields.HEAD_NUMBERS: at + 48,
            fields.QUERY_SCALE: at + 56,
            fields.Q_NUMBERS: at + 16,
            fields.HIDDEN_NUMBERS: at + 32,
        }
        for field, value in values.items():
            self.plan[field] = value

    def set_outliers(self, outlier: float, hidden: float) -> None:
        """How many times its row's root mean square a number must be to stand apart, and that for the input
        of down_proj."""
        self._numbers[:3, 2] = outlier**2, outlier**2, hidden**2

    def _set_rows(self, config: ModelConfig) -> None:
        """One row per token."""
        widths = {
            fields.X: padded(config.dim),
            fields.QKV: padded(config.q_dim + 2 * config.kv_dim),
            fields.ATTENDED: padded(config.q_dim),
            fields.GATED: padded(config.hidden_dim),
        }
        strides = (fields.X_STRIDE, fields.QKV_STRIDE, fields.ATTENDED_STRIDE, fields.GATED_STRIDE)
        for (field, width), stride in zip(widths.items(), strides, strict=True):
            # A line more than the row, so that a column of rows does not share one set of the cache.
            floats = width + 16
            rows = self._new(f"rows {field}", 4 * floats * self.max_tokens).floats(floats * self.max_tokens)
            self.plan[field] = address(rows)
            self.plan[stride] = 4 * floats
            if field == fields.X:
                self.x = rows.reshape(self.max_tokens, floats)
        widest = max(padded(config.dim), padded(config.q_dim), padded(config.hidden_dim))
        activations = n_blocks(widest) * ACTIVATION_BLOCK_BYTES
        self.plan[fields.ACTIVATIONS] = address(self._new("activations", activations * self.max_tokens).bytes)

    def _set_scratch(self, config: ModelConfig, threads: int) -> None:
        """Each thread's own memory."""
        group, head_dim = config.n_heads // config.n_kv_heads, config.head_dim
        rows = max(self.span_tokens, SMALL_TOKENS) * group
        partial = PARTIAL_HEAD_BYTES + 4 * head_dim
        widest = max(padded(config.dim), padded(config.q_dim), padded(config.hidden_dim))
        sizes = {
            fields.ROW_AT: 4 * padded(config.dim),
            fields.HEAD_AT: 4 * padded(head_dim),
            fields.HEADS_AT: 4 * padded(config.q_dim),
            fields.OWN_ACTIVATIONS_AT: self.max_tokens * n_blocks(widest) * ACTIVATION_BLOCK_BYTES,
            fields.PAIR_AT: 64 * PANELS_AT_ONCE * self.max_tokens,
            fields.QUERIES_AT: 4 * head_dim * rows,
            fields.SCORES_AT: 4 * BLOCK_POSITIONS * max(ROW_COUNTS),
            fields.LIMITS_AT: 4 * rows,
            fields.LOWS_AT: 4 * rows,
            fields.RESULTS_AT: partial * rows,
            fields.TOTALS_AT: partial * rows,
        }
        used = 0
        for field, size in sizes.items():
            self.plan[field] = used
            used += -(-size // 64) * 64
        # Threads write these all the time: a page apart, no prefetcher drags one's lines to another's core.
        stride = -(-used // 4096) * 4096 + 4096
        self.plan[fields.SCRATCH] = address(self._new("scratch", stride * threads).bytes)
        self.plan[fields.SCRATCH_STRIDE] = stride

    def grow_positions(self, capacity: int, freq_divisors: NDArray[np.float32] | None) -> None:
        """Make the tables of angles and the attention results reach `capacity` positions."""
        half = self.config.n_rotated // 2
        if "cos" in self._arenas and self._arenas["cos"].nbytes >= 4 * half * capacity:
            return
        rope = describe(self.config).layers[0].attention.rope
        assert rope is not None, "plan.shape_problem declines layers without positions"
        frequencies, factor = rope_frequencies(rope, freq_divisors)
        angles = np.outer(np.arange(capacity, dtype=np.float64), frequencies)
        for name, field, function in (("cos", fields.COS, np.cos), ("sin", fields.SIN, np.sin)):
            table = self._new(name, 4 * half * capacity).floats(half * capacity)
            table[:] = (function(angles) * factor).astype(np.float32).reshape(-1)
            self.plan[field] = address(table)
        blocks = -(-capacity // BLOCK_POSITIONS)
        partial = PARTIAL_HEAD_BYTES + 4 * self.config.head_dim
        results = self._new("partials", SMALL_TOKENS * self.config.n_heads * blocks * partial)
        self.plan[fields.PARTIALS] = address(results.bytes)
        self.plan[fields.FOLDED] = address(self._new("folded", 8 * self.config.n_kv_heads).bytes)

    def grow_logits(self, rows: int) -> None:
        """Make room for the logits of `rows` tokens."""
        if rows <= self._logits_rows:
            return
        width = -(-self.config.vocab_size // 16) * 16
        self.logits = self._new("logits", 4 * width * rows).floats(width * rows).reshape(rows, width)
        self._logits_rows = rows
        self.plan[fields.LOGITS] = address(self.logits)
        self.plan[fields.LOGITS_STRIDE] = 4 * width
