"""The compiled model's buffers, and the plan that tells the step where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import base as architectures
from llama_core.architectures import describe
from llama_core.architectures.base import QueryTemperature
from llama_core.architectures.recurrent import Recurrent
from llama_core.architectures.rope import original_length, rope_frequencies, takes_long_factors
from llama_core.backends.jit.buffers import Arena, address, whole_lines
from llama_core.backends.jit.control.records import (
    CHOICE_BYTES,
    PANELS_AT_ONCE,
    SHARED_BYTES,
    VISIT_BYTES,
    Angles,
    Plan,
    Rope,
    Rows,
    Shared,
    Temperature,
    Tile,
    Worker,
)
from llama_core.backends.jit.layout import (
    BLOCK_POSITIONS,
    FACTORS_BYTES,
    PARTIAL_HEAD_BYTES,
    ROW_COUNTS,
    KvKind,
    n_blocks,
)
from llama_core.backends.jit.recurrent import in_columns
from llama_core.config import ModelConfig

# Steps of up to this many tokens of one sequence go the small way (see `program.py`).
SMALL_TOKENS = 4
# From so many tokens per thread on, threads take runs of tokens: the wide way.
WIDE_TOKENS = 12
# Rows (query heads of some tokens) that attention takes together in a large step: so few that threads share
# out the work evenly. A thread that has a run of tokens to itself takes more, so that it reads keys and
# values less often: prompts of a 1B model behind 16,000 positions are 1.09 times as fast, behind 8,192 the
# same.
SPAN_ROWS = 24
RUN_SPAN_ROWS = 64
# The largest number of a block of activations is an outlier (see `layout.py`) where it is more than so many
# times its row's root mean square. On the reference text of 2,000 tokens the model is then 0.0008 nats
# (Kullback-Leibler) from float32's, and 0.0033 if none ever does; of 512 greedy tokens after the reference
# prompts 331 come before the first that differs, else 260. Prefill loses 5 % by it. With 3 for 4 it would be
# 0.0007 nats, and 2 to 3 % slower.
OUTLIER = 4.0
# The input of down_proj: its outliers stand elsewhere for every token, so that a branch per token and block
# is often mispredicted.
OUTLIER_HIDDEN = 6.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the compiled model chooses by itself, for who measures other choices.

    prefetch_bytes: how far ahead weights are asked for; None: found out while decoding (`prefetch.py`).
    in_turn: tiles of a prompt share out what they ask for (`kernels/ahead.py`); else each asks for all.
    finishes_all: the last layer also finishes tokens whose logits nobody asks for. outlier, outlier_hidden:
    how many times its row's root mean square makes a number one, the latter for the input of
    down_proj; `math.inf`: none does. wide_tokens: see WIDE_TOKENS. run_span_rows: see RUN_SPAN_ROWS.
    """

    prefetch_bytes: int | None = None
    in_turn: bool = True
    finishes_all: bool = False
    outlier: float = OUTLIER
    outlier_hidden: float = OUTLIER_HIDDEN
    wide_tokens: int = WIDE_TOKENS
    run_span_rows: int = RUN_SPAN_ROWS


OWN_CHOICES = Tuning()

_PAGE = 4096


def padded(numbers: int) -> int:
    """A width that kernels without remainder loops can take."""
    return -(-numbers // 32) * 32


def _columns_of(mixer: architectures.Attention | Recurrent) -> int:
    """Numbers of a row that a mixer takes."""
    if isinstance(mixer, architectures.Attention):
        return mixer.q_dim * (1 + mixer.gated) + 2 * mixer.kv_dim
    return in_columns(mixer)


class Workspace:
    """Memory for up to `max_tokens` tokens in a step, and the plan that points to it.

    residual: (max_tokens, padded dim) float32, the residual stream, which the caller fills with embeddings.
    x, qkv, attended, gated, branch, scores, choices, logits_rows: the buffers as records; widths are padded
    to 32. A layer with a state has its own rows in `qkv`, and its results in `attended`. Of `gated` there are
    as many rows as tokens visit experts; scores and choices are for these.
    """

    def __init__(
        self,
        config: ModelConfig,
        threads: int,
        max_tokens: int,
        *,
        kv: KvKind,
        activation_bytes: int,
        largest_tile: int,
        tuning: Tuning = OWN_CHOICES,
    ) -> None:
        self.config, self.tuning = config, tuning
        self.max_tokens = max_tokens
        group = config.n_heads // config.n_kv_heads
        self.span_tokens, self.run_span_tokens = (
            max(1, rows // group) for rows in (SPAN_ROWS, tuning.run_span_rows)
        )
        model = describe(config)
        self.dim, self.q_dim = padded(config.dim), padded(config.q_dim)
        self.hidden_dim = padded(config.hidden_dim)
        self.mixed_dim = padded(max([config.q_dim, *(x.out_dim for x in model.recurrents().values())]))
        experts = [x.feed_forward.experts for x in model.layers]
        self._n_experts = max((x.n for x in experts if x is not None), default=0)
        self._n_used = max((x.n_used for x in experts if x is not None), default=1)
        self._arenas: dict[str, Arena] = {}
        self.plan = Plan()
        self._ropes: dict[architectures.Rope, Rope] = {}
        self._temperatures: dict[QueryTemperature, Temperature] = {}
        self._capacity = 0  # positions that tables by position reach
        self._constants: dict[float, NDArray[np.float32]] = {}
        self._numbers: dict[tuple[int, float], NDArray[np.float32]] = {}
        # A line more than the row, so that a column of rows does not share one set of the cache.
        self.residual, self.x = self._rows("x", self.dim, max_tokens)
        projected = max(self.q_dim, *(_columns_of(layer.mixer) for layer in model.layers))
        _, self.qkv = self._rows("qkv", padded(projected), max_tokens)
        _, self.attended = self._rows("attended", self.mixed_dim, max_tokens)
        _, self.gated = self._rows("gated", self.hidden_dim, max_tokens * self._n_used)
        _, self.branch = self._rows("branch", self.dim, max_tokens)
        _, self.scores = self._rows("scores", padded(self._n_experts), max_tokens)
        _, self.choices = self._rows("choices", padded(CHOICE_BYTES // 4 * self._n_used), max_tokens)
        widest = max(self.dim, self.mixed_dim, self.hidden_dim)
        self._activations_bytes = n_blocks(widest) * activation_bytes * max_tokens * self._n_used
        self.plan.model.set(
            n_kv_heads=config.n_kv_heads,
            group=group,
            head_dim=config.head_dim,
            head_numbers=self.numbers_of(config.head_dim),
            kv_kind=kv.code,
            kv_block_bytes=kv.block_bytes(config.head_dim),
            qkv=self.qkv,
            attended=self.attended,
            activations=address(self._new("activations", self._activations_bytes).bytes),
            largest_tile=largest_tile,
        )
        self.shared = Shared(self._new("shared", SHARED_BYTES).bytes.view(np.int64)[:: Shared.spacing // 8])
        # Phase 0 is over: the cursors' zeros are thus from an earlier phase than the first.
        self.shared.current = self.shared.end = 1
        self.plan.shared = self.shared.address
        self._set_workers(config, threads)
        self._n_logits = 0
        self.logits: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self.logits_rows = Rows()
        self.grow_logits(1)

    @property
    def nbytes(self) -> int:
        """Memory of all arenas."""
        return sum(a.nbytes for a in self._arenas.values())

    @property
    def memory(self) -> tuple[object, ...]:
        """What owns the memory the plan points to."""
        return (self._arenas, self._ropes, self._temperatures, self._constants, self._numbers)

    def numbers_of(self, width: int, outlier: float = OUTLIER) -> int:
        """Address of what norms and quantisation of rows of so many numbers take: 1 / width, eps of norms,
        and the square of how many times the root mean square makes an outlier."""
        numbers = np.array([1.0 / width, self.config.norm_eps, outlier**2], dtype=np.float32)
        return address(self._numbers.setdefault((width, outlier), numbers))

    def constant(self, value: float) -> int:
        """Address of a float32 of that value."""
        kept = self._constants.setdefault(value, np.array([value], dtype=np.float32))
        return address(kept)

    def rope_of(self, rope: architectures.Rope | None) -> int:
        """Address of the record of a layer's angles, 0 where it has none."""
        if rope is None:
            return 0
        if rope not in self._ropes:
            self._ropes[rope] = Rope()
            self._ropes[rope].half = rope.n_rotated // 2
        return self._ropes[rope].address

    def is_long(self, capacity: int) -> bool:
        """Whether a cache of `capacity` positions is rotated by LongRoPE's long factors, in any layer."""
        return any(takes_long_factors(rope, capacity) for rope in self._ropes)

    def temperature_of(self, temperature: QueryTemperature | None) -> int:
        """Address of the record of what a layer's queries are multiplied by, 0 where it has none."""
        if temperature is None:
            return 0
        return self._temperatures.setdefault(temperature, Temperature()).address

    def grow_positions(self, capacity: int, freq_divisors: NDArray[np.float32] | None) -> None:
        """Make the tables by position and the attention results reach `capacity` positions."""
        if capacity <= self._capacity:
            return
        self._capacity = capacity
        for i, (rope, record) in enumerate(self._ropes.items()):
            short = min(capacity, original_length(rope) or capacity)
            record.angles = record.long_angles = self._angles(str(i), rope, freq_divisors, short)
            if capacity > short:
                record.long_angles = self._angles(f"{i} long", rope, freq_divisors, capacity)
        for i, (temperature, factors) in enumerate(self._temperatures.items()):
            turns = np.arange(capacity) // temperature.length
            factors.factors = self._table(f"temperature {i}", 1.0 + temperature.beta * np.log1p(turns))
        blocks = -(-capacity // BLOCK_POSITIONS)
        partial = PARTIAL_HEAD_BYTES + 4 * self.config.head_dim
        results = self._new("partials", SMALL_TOKENS * self.config.n_heads * blocks * partial)
        self.plan.model.partials = address(results.bytes)
        self.plan.model.folded = address(self._new("folded", 8 * self.config.n_kv_heads).bytes)

    def _angles(
        self, name: str, rope: architectures.Rope, freq_divisors: NDArray[np.float32] | None, capacity: int
    ) -> Angles:
        """The tables of a cache of `capacity` positions."""
        frequencies, factor = rope_frequencies(rope, freq_divisors, capacity)
        radians = np.outer(np.arange(capacity, dtype=np.float64), frequencies)
        angles = Angles()
        angles.cos = self._table(f"cos {name}", np.cos(radians) * factor)
        angles.sin = self._table(f"sin {name}", np.sin(radians) * factor)
        return angles

    def grow_logits(self, rows: int) -> bool:
        """Make room for the logits of `rows` tokens; returns whether they are elsewhere now."""
        if rows <= self._n_logits:
            return False
        width = -(-self.config.vocab_size // 16) * 16
        self.logits = self._new("logits", 4 * width * rows).floats(width * rows).reshape(rows, width)
        self._n_logits = rows
        self.logits_rows.set(at=address(self.logits), stride=4 * width)
        return True

    def _new(self, name: str, nbytes: int) -> Arena:
        self._arenas[name] = Arena(nbytes, huge=False)
        return self._arenas[name]

    def _table(self, name: str, values: NDArray[np.float64]) -> int:
        """Keep a table as float32; returns its address."""
        table = self._new(name, 4 * values.size).floats(values.size)
        table[:] = values.astype(np.float32).reshape(-1)
        return address(table)

    def _rows(self, name: str, width: int, count: int) -> tuple[NDArray[np.float32], Rows]:
        """A buffer of `count` rows: (count, width + 16) float32, and its record."""
        floats = width + 16
        buffer = self._new(f"rows {name}", 4 * floats * count).floats(floats * count).reshape(count, floats)
        rows = Rows()
        rows.set(at=address(buffer), stride=4 * floats)
        return buffer, rows

    def _set_workers(self, config: ModelConfig, threads: int) -> None:
        """Each thread's own memory, its record first."""
        group, head_dim = config.n_heads // config.n_kv_heads, config.head_dim
        rows = max(self.span_tokens, self.run_span_tokens, SMALL_TOKENS) * group
        partial = PARTIAL_HEAD_BYTES + 4 * head_dim
        sizes = {
            "row": 4 * max(self.dim, self.mixed_dim),
            "head": 4 * padded(head_dim),
            "heads": 4 * self.q_dim,
            "activations": self._activations_bytes,
            "pairs": 64 * PANELS_AT_ONCE * self.max_tokens,
            "queries": 4 * head_dim * rows,
            "scores": 4 * (BLOCK_POSITIONS + 2) * max(ROW_COUNTS),
            "limits": 4 * rows,
            "lows": 4 * rows,
            "results": partial * rows,
            "totals": partial * rows,
            "inputs": 64 * (self.max_tokens + config.conv_kernel),
            "factors": FACTORS_BYTES * self.max_tokens,
            "visits": VISIT_BYTES * self.max_tokens * self._n_used,
            "ends": 8 * self._n_experts,
            "visit_tiles": Tile.nbytes * self.max_tokens * self._n_used,
        }
        ends = [whole_lines(Worker.nbytes)]  # where each begins, and the end of the last
        for size in sizes.values():
            ends.append(ends[-1] + whole_lines(size))
        # Threads write these all the time: a page apart, no prefetcher drags one's lines to another's core.
        stride = -(-ends[-1] // _PAGE) * _PAGE + _PAGE
        memory = self._new("workers", stride * threads).bytes
        self.plan.workers, self.plan.worker_stride = address(memory), stride
        for thread in range(threads):
            own = memory[thread * stride :][: Worker.nbytes].view(np.int64)
            places = dict(zip(sizes, (address(own) + start for start in ends), strict=False))
            Worker(own).set(thread=thread, **places)
        self.plan.n_threads = threads
