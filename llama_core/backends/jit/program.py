"""A model as a list of operations, and the phases by which each kind of step runs them.

A layer is six operations. Three kinds of steps run them, each by a table of phases of its own (what a phase
does is said in `control/phases.py`):

    operation        small                  middle                     wide
    q, k, v          MULTIPLY               PREPARE, MULTIPLY          RUN_TOKENS of all operations
    append           ATTEND_BLOCKS          APPEND_TOKENS              up to and with `append`;
    attend           (both)                 ATTEND_SPANS               then from `attend` to the next
    o                MULTIPLY               PREPARE, MULTIPLY          layer's `append`; and so on
    gate, up         MULTIPLY               PREPARE, MULTIPLY
    down             MULTIPLY               PREPARE, MULTIPLY

    small: up to 4 tokens of one sequence (decode). wide: many tokens (prefill). middle: what is between
    (drafts, several sequences). Behind the last layer, where logits are asked for, comes the head.

Of the model's last operations, tokens count whose logits are asked for: a wide step leaves the others. Of a
prompt that is all but the tile of its last token, and a layer's share of the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_core.backends.jit.control.records import (
    APPEND,
    APPEND_TOKENS,
    ATTEND,
    ATTEND_BLOCKS,
    ATTEND_SPANS,
    MULTIPLY,
    PREPARE,
    PRODUCT,
    RUN_TOKENS,
    Attention,
    Matrix,
    Operation,
    Phase,
    Product,
    Rows,
)
from llama_core.backends.jit.record import Table
from llama_core.backends.jit.weights import PackedWeights
from llama_core.backends.jit.workspace import Workspace
from llama_core.config import ModelConfig

# Panels to take at least for a single token: less would be too short a stream for its prefetches to pay.
LEAST_PANELS = 4
FULL_WINDOW = 1 << 40
NO_LAYER = -1


@dataclass(frozen=True, slots=True)
class PhaseName:
    """What a phase does, for people, and in which layer; NO_LAYER for the head. A wide
    phase counts for the layer that it finishes."""

    operation: str
    layer: int


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The phases of one kind of step: `names[i]` is that of `phases[i]`; the last `n_head` are the head's."""

    phases: Table[Phase]
    names: tuple[PhaseName, ...]
    n_head: int


@dataclass(frozen=True, slots=True)
class _Planned:
    """An operation before it is written down. operand: the address of its Product or Attention."""

    kind: int
    name: PhaseName
    operand: int
    product: Product | None = None


class Program:
    """The operations of a model and their schedules. Holds the memory of all records but the plan's."""

    def __init__(self, config: ModelConfig, weights: PackedWeights, work: Workspace) -> None:
        self._config, self._weights, self._work = config, weights, work
        self._products = Table(Product, 4 * config.n_layers + 1)
        self._attentions = Table(Attention, config.n_layers)
        self._n_products = 0
        layers = [planned for i in range(config.n_layers) for planned in self._layer(i)]
        head = self._head()
        self._operations = Table(Operation, len(layers))
        for i, planned in enumerate(layers):
            self._operations[i].set(kind=planned.kind, operand=planned.operand)
        self.small = self._schedule([*_small_phases([*layers, head])], n_head=1)
        self.middle = self._schedule([*_middle_phases([*layers, head])], n_head=2)
        self.wide = self._schedule([*self._runs(layers), *_middle_phases([head])], n_head=2)

    @property
    def nbytes(self) -> int:
        words = [self._products.words, self._attentions.words, self._operations.words]
        words += [schedule.phases.words for schedule in (self.small, self.middle, self.wide)]
        return sum(table.nbytes for table in words)

    def use_logits(self, out: Rows) -> None:
        """Where the head is to write from now on."""
        self._products[len(self._products) - 1].out = out

    def _layer(self, i: int) -> Iterator[_Planned]:
        """What a layer does, in its order."""
        work, prefix = self._work, f"layers.{i}."
        qkv, o, gate_up, down = self._weights.matrices[4 * i : 4 * i + 4]
        vector = self._weights.vectors.get
        attention = self._attentions[i]
        attention.set(
            layer=i,
            window=self._config.sliding_window or FULL_WINDOW,
            rope=work.rope.address,
            q_norm=vector(prefix + "q_norm", 0),
            k_norm=vector(prefix + "k_norm", 0),
        )
        at = self._attentions.address(i)
        yield self._product(
            PhaseName("QKV product", i),
            work.x,
            qkv,
            work.qkv,
            norm=vector(prefix + "input_layernorm", 0),
            bias=vector(prefix + "qkv.bias", 0),
            width=work.dim,
            numbers=work.numbers_of("dim"),
        )
        yield _Planned(APPEND, PhaseName("RoPE of keys, cache", i), at)
        yield _Planned(ATTEND, PhaseName("RoPE of queries, attention", i), at)
        yield self._product(
            PhaseName("output product", i),
            work.attended,
            o,
            work.x,
            bias=vector(prefix + "o.bias", 0),
            width=work.q_dim,
            numbers=work.numbers_of("q_dim"),
            heads_of=at,
            adds=1,
        )
        yield self._product(
            PhaseName("gate and up, SwiGLU", i),
            work.x,
            gate_up,
            work.gated,
            norm=vector(prefix + "post_attention_layernorm", 0),
            bias=vector(prefix + "gate_up.bias", 0),
            width=work.dim,
            numbers=work.numbers_of("dim"),
            gated=1,
        )
        yield self._product(
            PhaseName("down product", i),
            work.gated,
            down,
            work.x,
            bias=vector(prefix + "down.bias", 0),
            width=work.hidden_dim,
            numbers=work.numbers_of("hidden_dim"),
            adds=1,
        )

    def _head(self) -> _Planned:
        """The logits."""
        return self._product(
            PhaseName("head", NO_LAYER),
            self._work.x,
            self._weights.matrices[-1],
            self._work.logits_rows,
            norm=self._weights.vectors["norm"],
            width=self._work.dim,
            numbers=self._work.numbers_of("dim"),
            of_logits=1,
        )

    def _product(self, name: PhaseName, source: Rows, matrix: Matrix, out: Rows, **words: int) -> _Planned:
        """Write the next product's record."""
        i = self._n_products
        product = self._products[i]
        product.set(source=source, matrix=matrix, out=out, **words)
        self._n_products += 1
        return _Planned(PRODUCT, name, self._products.address(i), product)

    def _runs(self, layers: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
        """A wide step's phases: threads wait for each other after each `append`."""
        start = 0
        for i, planned in enumerate(layers):
            if planned.kind == APPEND or i == len(layers) - 1:
                end = i + 1
                yield (
                    PhaseName("layer", layers[start].name.layer),
                    {
                        "kind": RUN_TOKENS,
                        "operand": self._operations.address(start),
                        "n_operations": end - start,
                        "finishes": int(end == len(layers)),
                    },
                )
                start = end

    def _schedule(self, planned: Sequence[tuple[PhaseName, dict[str, int]]], n_head: int) -> Schedule:
        phases = Table(Phase, len(planned))
        for i, (_, words) in enumerate(planned):
            phases[i].set(**{"least": 1, **words})
        return Schedule(phases, tuple(name for name, _ in planned), n_head)


def _small_phases(operations: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
    """A phase for each operation; `append` belongs to the `attend` behind it."""
    products = [planned for planned in operations if planned.product is not None]
    following = {a.operand: b.operand for a, b in itertools.pairwise(products)}
    for planned in operations:
        if planned.kind == ATTEND:
            name = PhaseName("RoPE, cache, attention", planned.name.layer)
            yield name, {"kind": ATTEND_BLOCKS, "operand": planned.operand}
        elif planned.product is not None:
            product, name = planned.product, planned.name
            if product.norm and name.layer != NO_LAYER:
                name = PhaseName(f"norm, {name.operation}", name.layer)
            least = LEAST_PANELS // (1 + product.gated)
            fetches = following.get(planned.operand, 0)
            yield (
                name,
                {"kind": MULTIPLY, "operand": planned.operand, "least": least, "fetches": fetches},
            )


def _middle_phases(operations: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
    """Each operation by all threads together; a product's input is made ready in a phase before it."""
    kinds = {APPEND: APPEND_TOKENS, ATTEND: ATTEND_SPANS, PRODUCT: MULTIPLY}
    for planned in operations:
        if planned.product is not None:
            name = planned.name
            if name.layer != NO_LAYER:
                name = PhaseName("norm" if planned.product.norm else "quantising", name.layer)
            yield name, {"kind": PREPARE, "operand": planned.operand}
        yield planned.name, {"kind": kinds[planned.kind], "operand": planned.operand}
