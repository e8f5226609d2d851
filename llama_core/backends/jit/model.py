"""The compiled model: the same `forward` as `llama_core.backends.numpy.model.Llama`, from packed weights.

Python's part of a step is small: look up the embeddings, fill in the plan, choose the schedule, call. What is
called is `control/step.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import describe
from llama_core.backends.base import Cache, Logits, require_tokens
from llama_core.backends.jit.buffers import address
from llama_core.backends.jit.build.library import Library
from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.cache import JitCache
from llama_core.backends.jit.control.records import Run, Span, Tile, Token
from llama_core.backends.jit.layout import KV_KINDS, KvKind
from llama_core.backends.jit.phase_clock import PhaseClock, PhaseWatch
from llama_core.backends.jit.prefetch import PrefetchDistance
from llama_core.backends.jit.program import Program, Schedule
from llama_core.backends.jit.record import Table
from llama_core.backends.jit.threads import ThreadPool
from llama_core.backends.jit.weights import PackedWeights
from llama_core.backends.jit.workspace import OWN_CHOICES, SMALL_TOKENS, Tuning, Workspace
from llama_core.backends.numpy.ops import rms_norm
from llama_core.config import ModelConfig
from llama_core.errors import Cancelled
from llama_core.file_rows import read_rows
from llama_core.memory import require_memory
from llama_core.quant.dequantize import dequantize

F32 = NDArray[np.float32]

PREFILL_CHUNK = 128
# Cancellation is asked for between calls, and a call should last no longer than this, on a machine that
# does half of what a slow laptop's core does.
CALL_S = 0.04
SLOW_BYTES_PER_S = 5e9
SLOW_PRODUCTS_PER_S = 50e9


class JitLlama:
    """A loaded model; implements `backend.Model` and `forward_batch`.

    freq_divisors: (n_rotated / 2,) that RoPE's frequencies are divided by, where a file has them. watch:
    told how long the phases of the steps that it wants took.
    """

    def __init__(
        self,
        config: ModelConfig,
        freq_divisors: F32 | None,
        weights: PackedWeights,
        library: Library,
        isa: Isa,
        threads: int,
        *,
        kv: KvKind = KV_KINDS["f32"],
        tuning: Tuning = OWN_CHOICES,
        watch: PhaseWatch | None = None,
    ) -> None:
        self._config = config
        self._library, self._isa = library, isa
        self._threads = threads
        self._kv = kv
        self._embedding_scale = np.float32(describe(self._config).embedding_scale)
        self._weights = weights
        self._max_tokens = min(PREFILL_CHUNK, self._config.max_seq_len)
        self._freq_divisors = freq_divisors
        self._work = Workspace(
            self._config,
            threads,
            self._max_tokens,
            kv=kv,
            activation_bytes=weights.activation_bytes,
            largest_tile=isa.tiles[0],
            tuning=tuning,
        )
        self._plan = self._work.plan
        self._program = Program(self._config, weights, self._work)
        n = self._max_tokens
        self._tiles = {count: _tiles(count, isa.tiles) for count in range(1, n + 1)}
        self._tokens, self._spans, self._runs = Table(Token, n), Table(Span, n), Table(Run, n)
        self._logit_rows = np.zeros(n, dtype=np.int64)
        self._prefetch = PrefetchDistance(tuning.prefetch_bytes)
        self._tuning = tuning
        self._step = self._plan.step
        self._step.set(
            tokens=self._tokens.address(),
            spans=self._spans.address(),
            runs=self._runs.address(),
            logit_rows=address(self._logit_rows),
        )
        self._clock = PhaseClock(self._plan, self._program.most_phases, watch) if watch else None
        tables = (self._tiles, self._tokens, self._spans, self._runs, self._logit_rows, self._clock)
        memory = (*self._work.memory, self._program, tables, weights)
        self._pool: ThreadPool | None = ThreadPool(library, self._plan, self._work.shared, memory)

    @property
    def config(self) -> ModelConfig:
        """The shapes and numbers that the checkpoint gives."""
        return self._config

    @property
    def backend(self) -> str:
        """For people: the instructions used, and how the file's types are kept."""
        kept = ", ".join(f"{source} as {packed}" for source, packed in self._weights.kinds)
        kv = "" if self._kv.name == "f32" else f", kv {self._kv.name}"
        return f"jit {self._isa.name} ({kept}{kv})"

    @property
    def arithmetic(self) -> str:
        """How numbers are kept: all instruction sets and numbers of threads give the same bits."""
        return f"jit {self._weights.kinds} {self._kv} {self._tuning}"

    @property
    def threads(self) -> int:
        """Threads of the pool, the caller's included."""
        return self._threads

    @property
    def prefill_chunk(self) -> int:
        """Tokens that one step takes, at most."""
        return self._max_tokens

    @property
    def weights_bytes(self) -> int:
        """Memory of the packed weights, in bytes."""
        return self._weights.nbytes

    @property
    def scratch_bytes(self) -> int:
        """Memory of the activations and of the program, in bytes."""
        return self._work.nbytes + self._program.nbytes

    @property
    def mapped_bytes(self) -> int:
        """The embedding is read from the file, row by row."""
        return self._weights.embedding.nbytes

    def new_cache(self, capacity: int) -> JitCache:
        """An empty cache. Raises NotEnoughMemoryError before allocating what would not fit."""
        return self._own(JitCache(self._config, capacity, self._kv))

    def forward(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """Compute `token_ids`, (n,) with n <= prefill_chunk, behind what `cache` holds; see `backend.Model`.

        The bits of the logits do not depend on how tokens are cut into calls, nor on the threads.
        """
        n = len(token_ids)
        count = {"last": 1, "all": n, "none": 0}[logits]
        rows = self._run([(token_ids, cache)], range(n - count, n), cancelled)
        if logits == "none":
            return rows.reshape(-1)
        return rows[0] if logits == "last" else rows

    def forward_batch(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], Cache]],
        *,
        logits: Logits = "last",
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """Several sequences in one step, each with its own cache, together at most `prefill_chunk` tokens.

        Returns the logits after each one's last token, (n_sequences, vocab_size), or for "all" after each
        token, (n, vocab_size), valid until the next call: bit for bit those of the sequence alone.
        """
        ends = np.cumsum([len(ids) for ids, _ in sequences])
        rows = range(ends[-1]) if logits == "all" and len(ends) else (ends - 1).tolist()
        return self._run(sequences, rows, cancelled)

    def hidden_states(
        self,
        token_ids: NDArray[np.int32],
        cache: Cache,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> F32:
        """What the head would take of `token_ids`: (n, dim), normed. Otherwise as `forward`."""
        self._run([(token_ids, cache)], (), cancelled, finishes_all=True)
        x = self._work.residual[: len(token_ids), : self._config.dim]
        return rms_norm(x, self._weights.final_norm, self._config.norm_eps, out=np.empty_like(x))

    def observed(self, watch: PhaseWatch, tuning: Tuning | None = None) -> JitLlama:
        """Another model of the same weights and kernels, with threads and buffers of its own: a profiler's.

        tuning: other choices than this one's.
        """
        return JitLlama(
            self._config,
            self._freq_divisors,
            self._weights,
            self._library,
            self._isa,
            self._threads,
            kv=self._kv,
            tuning=tuning or self._tuning,
            watch=watch,
        )

    def close(self) -> None:
        """Stop the helper threads. May be called twice."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _run(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], Cache]],
        logit_rows: Sequence[int],
        cancelled: Callable[[], bool] | None,
        finishes_all: bool = False,
    ) -> F32:
        """All layers; the logits after `logit_rows`, (len(logit_rows), vocab_size). Advances the caches.
        finishes_all: the last layer is computed for all tokens, though nobody asks for their logits."""
        if self._pool is None:
            raise ValueError("the model is closed")
        own = [(ids, self._own(cache)) for ids, cache in sequences]
        n, n_logits = self._begin(own, logit_rows, finishes_all), len(logit_rows)
        schedule = self._schedule()
        n_phases = len(schedule.phases) - (0 if n_logits else schedule.n_head)
        clock = self._clock if self._clock is not None and self._clock.begin() else None
        began = time.perf_counter()
        at_once = self._phases_per_call(n, len(schedule.phases))
        for first in range(0, n_phases, at_once):
            if cancelled is not None and cancelled():
                raise Cancelled
            self._step.phases = schedule.phases.address(first)
            self._step.n_phases = min(at_once, n_phases - first)
            self._pool.run()
            if clock is not None:
                clock.tell(schedule.names, first, self._step.n_phases)
        if n == 1:
            self._prefetch.took(time.perf_counter() - began)
        for ids, cache in own:
            cache.advance(len(ids))
        return self._work.logits[:n_logits, : self._config.vocab_size]

    def _schedule(self) -> Schedule:
        """By which phases the planned step is run."""
        if self._step.is_small:
            return self._program.small
        return self._program.wide if self._step.n_runs else self._program.middle

    def _phases_per_call(self, n: int, n_phases: int) -> int:
        """How many of all phases one call takes, for a step of n tokens."""
        active = self._weights.active_bytes
        read = min(active * n, self._weights.nbytes)
        step_s = max(read / SLOW_BYTES_PER_S, 2 * active * n / SLOW_PRODUCTS_PER_S)
        return max(1, int(n_phases * CALL_S / step_s))

    def _begin(
        self,
        sequences: Sequence[tuple[NDArray[np.int32], JitCache]],
        logit_rows: Sequence[int],
        finishes_all: bool,
    ) -> int:
        """Check everything, look up the embeddings and plan the step; returns the number of tokens."""
        all_ids = require_tokens(sequences, self._max_tokens, self._config.vocab_size)
        n, n_logits = len(all_ids), len(logit_rows)
        self._logit_rows[:n_logits] = logit_rows
        if n_logits > 1:
            if n_logits * self._config.vocab_size > self._work.logits.size:
                nbytes = 4 * n_logits * self._config.vocab_size
                require_memory(f"Logits of {n_logits} tokens", nbytes, "take fewer tokens at once")
            if self._work.grow_logits(n_logits):
                self._program.use_logits(self._work.logits_rows)
        self._embed(all_ids)
        row = 0
        for ids, own in sequences:
            own.require_room(len(ids))
            rows = slice(row, row + len(ids))
            self._tokens.column(Token.position)[rows] = range(own.length, own.length + len(ids))
            self._tokens.column(Token.keys)[rows] = own.keys_address
            self._tokens.column(Token.values)[rows] = own.values_address
            self._tokens.column(Token.head_bytes)[rows] = own.head_bytes
            self._tokens.column(Token.is_long)[rows] = self._work.is_long(own.capacity)
            now, following = own.states.addresses
            self._tokens.column(Token.state)[rows] = now
            self._tokens.column(Token.next_state)[rows] = following
            self._tokens.column(Token.left)[rows] = range(len(ids), 0, -1)
            row += len(ids)
        small = len(sequences) == 1 and n <= SMALL_TOKENS
        self._step.set(
            n_tokens=n,
            is_small=int(small),
            in_turn=int(self._tuning.in_turn),
            prefetch_bytes=self._prefetch.distance if small else self._prefetch.for_many,
            tiles=self._tiles[n].address(),
            n_logits=n_logits,
            logit_tiles=self._tiles[max(1, n_logits)].address(),
            n_runs=0,
        )
        if not small:
            self._cut(n, [len(ids) for ids, _ in sequences])
        unfinished = 0
        if not (finishes_all or self._tuning.finishes_all):  # the first row of logits is the earliest token's
            unfinished = self._tiles[n][logit_rows[0]].first if n_logits else n
        self._step.unfinished = unfinished
        return n

    def _own(self, cache: Cache) -> JitCache:
        """The cache as this model's own kind; tables reach as far. Raises TypeError for another backend's,
        ValueError for that of another model."""
        if not isinstance(cache, JitCache):
            raise TypeError(f"the compiled model needs its own cache, not {type(cache).__name__}")
        cache.require_config(self._config)
        if cache.kind != self._kv:
            raise ValueError("the cache keeps its numbers another way than this model")
        self._work.grow_positions(cache.capacity, self._freq_divisors)
        return cache

    def _embed(self, ids: NDArray[np.int32]) -> None:
        """Rows of the embedding table into the residual stream, straight from the file. ids: (n,)."""
        table, n, dim = self._weights.embedding, len(ids), self._config.dim
        dequantize(read_rows(table.raw[ids]), table.fmt, out=self._work.residual[:n, :dim])
        if self._embedding_scale != 1.0:
            self._work.residual[:n, :dim] *= self._embedding_scale
        self._work.residual[:n, dim:] = 0.0  # where a token's NaN, times padding's zeros, may still stand

    def _cut(self, n: int, lengths: Sequence[int]) -> None:
        """Cut the tokens into runs, where there are enough of them, and those into attention's spans."""
        largest_tile = self._isa.tiles[0]
        wide = n >= self._tuning.wide_tokens * self._threads
        # Whole tiles, so that no tile belongs to two runs.
        run = -(-n // (self._threads * largest_tile)) * largest_tile if wide else n
        longest = self._work.run_span_tokens if wide else self._work.span_tokens
        sequence_ends = set(np.cumsum(lengths).tolist())
        n_spans = n_runs = 0
        for first in range(0, n, run):
            last, spans_before, start = min(n, first + run), n_spans, first
            for end in range(first + 1, last + 1):
                if end == last or end in sequence_ends or end - start == longest:
                    self._spans.words[n_spans] = start, end - start
                    n_spans += 1
                    start = end
            self._runs.words[n_runs] = first, last - first, spans_before, n_spans - spans_before
            n_runs += 1
        self._step.n_spans = n_spans
        self._step.n_runs = n_runs if wide else 0


def _tiles(count: int, sizes: tuple[int, ...]) -> Table[Tile]:
    """For each of `count` rows the tile it is in."""
    tiles = Table(Tile, count)
    start = 0
    while start < count:
        size = next(s for s in sizes if s <= count - start)
        tiles.words[start : start + size] = start, size
        start += size
    return tiles
