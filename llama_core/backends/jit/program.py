"""A model as a list of operations, and the phases by which each kind of step runs them.

A layer is six operations, or some more where its description has norms behind the sub-layers or over all
heads together. Three kinds of steps run them, each by a table of phases of its own (what a phase does is said
in `control/phases.py`):

    operation        small                  middle                     wide
    q, k, v          MULTIPLY               PREPARE, MULTIPLY          RUN_TOKENS of all operations
    append           ATTEND_BLOCKS          APPEND_TOKENS              up to and with `append`;
    attend           (both)                 ATTEND_SPANS               then from `attend` to the next
    o                MULTIPLY               PREPARE, MULTIPLY          layer's `append`; and so on
    gate, up         MULTIPLY               PREPARE, MULTIPLY
    down             MULTIPLY               PREPARE, MULTIPLY
    a norm           NORM_ROWS              NORM_ROWS

    A layer with a state has instead of the first three, shared in all steps, and with the rows of its input
    in the place of q, k and v:

    convolve         CONVOLVE_CHANNELS      CONVOLVE_CHANNELS          as middle, between two RUN_TOKENS
    recur            RECUR_HEADS            RECUR_HEADS

    With experts a router's product stands before gate, up and down, and what follows is in all steps shared:

    choose           CHOOSE_EXPERTS         CHOOSE_EXPERTS             within RUN_TOKENS
    gate, up         MULTIPLY_EXPERTS       PREPARE_VISITS,            as middle, between two RUN_TOKENS
    down             MULTIPLY_EXPERTS       MULTIPLY_EXPERTS

    small: up to 4 tokens of one sequence (decode). wide: many tokens (prefill). middle: what is between
    (drafts, several sequences). Behind the last layer, where logits are asked for, comes the head.

Of the model's last operations, tokens count whose logits are asked for: a wide step leaves the others. Of a
prompt that is all but the tile of its last token, and a layer's share of the time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llama_core.architectures import describe
from llama_core.architectures.base import Activation
from llama_core.architectures.base import Attention as AttentionSpec
from llama_core.architectures.base import Experts as ExpertsSpec
from llama_core.architectures.recurrent import Recurrent, ShortConv
from llama_core.backends.base import NO_LAYER
from llama_core.backends.jit.control.records import (
    APPEND,
    APPEND_TOKENS,
    ATTEND,
    ATTEND_BLOCKS,
    ATTEND_SPANS,
    CHOOSE,
    CHOOSE_EXPERTS,
    CLAMPED_SWIGLU,
    CONVOLVE,
    CONVOLVE_CHANNELS,
    EXPERTS,
    GELU_TANH,
    MULTIPLY,
    MULTIPLY_EXPERTS,
    NORM,
    NORM_ROWS,
    PREPARE,
    PREPARE_VISITS,
    PRODUCT,
    RECUR,
    RECUR_HEADS,
    RUN_TOKENS,
    SILU,
    Attention,
    Experts,
    Matrix,
    Norm,
    Operation,
    Phase,
    Product,
    Rows,
)
from llama_core.backends.jit.record import Record, Table
from llama_core.backends.jit.recurrent import convolution_of, memory_of
from llama_core.backends.jit.weights import PackedWeights
from llama_core.backends.jit.workspace import Workspace, padded
from llama_core.backends.states import state_places
from llama_core.config import ModelConfig

# Panels to take at least for a single token: less would be too short a stream for its prefetches to pay.
LEAST_PANELS = 4
FULL_WINDOW = 1 << 40


@dataclass(frozen=True, slots=True)
class Gate:
    """An activation that the kernels have, and what its product is called."""

    code: int
    name: str


GATED: dict[Activation, Gate] = {
    "silu": Gate(SILU, "gate and up, SwiGLU"),
    "gelu_tanh": Gate(GELU_TANH, "gate and up, GeGLU"),
    "clamped_swiglu": Gate(CLAMPED_SWIGLU, "gate and up, clamped SwiGLU"),
}


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
    """An operation before it is written down. operand: the address of its record; product: it, where it is a
    Product."""

    kind: int
    name: PhaseName
    operand: int
    product: Product | None = None


class Program:
    """The operations of a model and their schedules. Holds the memory of all records but the plan's."""

    def __init__(self, config: ModelConfig, weights: PackedWeights, work: Workspace) -> None:
        self._weights, self._work = weights, work
        self._model = describe(config)
        self._state_places = state_places(self._model.recurrents())
        self._records: list[Record] = []
        layers = [planned for i in range(config.n_layers) for planned in self._layer(i)]
        head = self._head()
        assert head.product is not None
        self._logits = head.product
        self._operations = Table(Operation, len(layers))
        for i, planned in enumerate(layers):
            self._operations[i].set(kind=planned.kind, operand=planned.operand)
        self.small = self._schedule([*_small_phases([*layers, head])], n_head=1)
        self.middle = self._schedule([*_middle_phases([*layers, head])], n_head=2)
        self.wide = self._schedule([*self._wide_phases(layers), *_middle_phases([head])], n_head=2)

    @property
    def most_phases(self) -> int:
        """Of any kind of step."""
        return max(len(schedule.phases) for schedule in (self.small, self.middle, self.wide))

    @property
    def nbytes(self) -> int:
        """Memory of the operations, their records and all phases."""
        words = [self._operations.words, *(record.words for record in self._records)]
        words += [schedule.phases.words for schedule in (self.small, self.middle, self.wide)]
        return sum(table.nbytes for table in words)

    def use_logits(self, out: Rows) -> None:
        """Where the head is to write from now on."""
        self._logits.out = out

    def _layer(self, i: int) -> Iterator[_Planned]:
        """What a layer does, in its order."""
        mixer = self._model.layers[i].mixer
        yield from self._attend(i, mixer) if isinstance(mixer, AttentionSpec) else self._recur(i, mixer)
        yield from self._feed_forward(i)

    def _attend(self, i: int, spec: AttentionSpec) -> Iterator[_Planned]:
        """Attention, and what goes before it and after."""
        work = self._work
        yield self._product(
            PhaseName("QKV product", i),
            work.x,
            self._matrix(i, "qkv"),
            work.qkv,
            norm=self._vector(i, "input_layernorm"),
            bias=self._vector(i, "qkv.bias"),
            width=work.config.dim,
        )
        if spec.qk_norm == "width":
            first = 0
            for part, width in (("q", spec.q_dim), ("k", spec.kv_dim)):
                rows = work.qkv.shifted(4 * first)
                name = PhaseName(f"norm of {part}", i)
                yield self._norm(name, rows, rows, weight=self._vector(i, f"{part}_norm"), width=width)
                first += spec.q_dim
        attention = self._attention(i, spec)
        yield _Planned(APPEND, PhaseName("RoPE of keys, cache", i), attention)
        yield _Planned(ATTEND, PhaseName("RoPE of queries, attention", i), attention)
        yield from self._added(
            PhaseName("output product", i),
            work.attended,
            self._matrix(i, "o"),
            "attention_out_norm",
            bias=self._vector(i, "o.bias"),
            width=spec.q_dim,
            heads_of=attention,
        )

    def _recur(self, i: int, spec: Recurrent) -> Iterator[_Planned]:
        """What a layer with a state has instead."""
        work, place, vector = self._work, self._state_places[i], partial(self._vector, i)
        yield self._product(
            PhaseName("input product", i),
            work.x,
            self._matrix(i, "in"),
            work.qkv,
            norm=vector("input_layernorm"),
            bias=vector("in.bias"),
            width=work.config.dim,
        )
        convolution = convolution_of(spec, work.qkv, work.attended, place.conv, vector)
        self._records.append(convolution)
        yield _Planned(CONVOLVE, PhaseName("convolution", i), convolution.address)
        norm = 0
        if not isinstance(spec, ShortConv):
            numbers = work.numbers_of(spec.head_dim)
            rows = (work.qkv, work.attended, place.memory)
            memory = memory_of(spec, *rows, vector, work.constant, numbers)
            self._records.append(memory)
            yield _Planned(RECUR, PhaseName("memory", i), memory.address)
            norm = 0 if memory.is_delta else vector("state_norm")
        yield from self._added(
            PhaseName("output product", i),
            work.attended,
            self._matrix(i, "o"),
            "attention_out_norm",
            norm=norm,
            bias=vector("o.bias"),
            width=spec.out_dim,
        )

    def _feed_forward(self, i: int) -> Iterator[_Planned]:
        """A layer's second half."""
        work, spec, experts = self._work, self._model.layers[i].feed_forward, 0
        norm = self._vector(i, "post_attention_layernorm")
        if spec.experts is not None:
            experts = self._experts(spec.experts)
            yield self._product(
                PhaseName("router", i),
                work.x,
                self._matrix(i, "router"),
                work.scores,
                norm=norm,
                bias=self._vector(i, "router.bias"),
                width=work.config.dim,
            )
            yield _Planned(CHOOSE, PhaseName("choice of experts", i), experts)
        yield self._product(
            PhaseName(GATED[spec.activation].name, i),
            work.x,
            self._matrix(i, "gate_up"),
            work.gated,
            norm=norm,
            bias=self._vector(i, "gate_up.bias"),
            width=work.config.dim,
            gated=GATED[spec.activation].code,
            experts=experts,
        )
        yield from self._added(
            PhaseName("down product", i),
            work.gated,
            self._matrix(i, "down"),
            "feed_forward_out_norm",
            bias=self._vector(i, "down.bias"),
            width=spec.hidden_dim,
            outlier=work.tuning.outlier_hidden,
            experts=experts,
        )

    def _added(
        self, name: PhaseName, source: Rows, matrix: Matrix, norm_after: str, **how: Any
    ) -> Iterator[_Planned]:
        """A product that is added to the residual stream, by way of a norm or a factor where there is one.
        how: as for `_product`."""
        work, weight = self._work, self._vector(name.layer, norm_after)
        scale = self._constant(self._model.layers[name.layer].residual_scale)
        if not weight and not scale:
            yield self._product(name, source, matrix, work.x, adds=1, **how)
            return
        yield self._product(name, source, matrix, work.branch, **how)
        adding = PhaseName("norm, sum", name.layer)
        yield self._norm(
            adding, work.branch, work.x, weight=weight, width=work.config.dim, scale=scale, adds=1
        )

    def _attention(self, i: int, spec: AttentionSpec) -> int:
        """The record of layer i's attention; returns its address."""
        attention = Attention()
        by_head = spec.qk_norm == "head"
        attention.set(
            layer=i - sum(k < i for k in self._state_places),
            window=spec.window or FULL_WINDOW,
            rope=self._work.rope_of(spec.rope),
            query_scale=self._work.constant(spec.scale / math.log(2)),  # scores count powers of 2
            temperature=self._work.temperature_of(spec.temperature),
            softcap=self._work.constant(spec.softcap) if spec.softcap else 0,
            q_norm=self._vector(i, "q_norm") if by_head else 0,
            k_norm=self._vector(i, "k_norm") if by_head else 0,
            norms_last=int(spec.norm_after_rope),
            sinks=self._vector(i, "sinks"),
            gated=int(spec.gated),
        )
        self._records.append(attention)
        return attention.address

    def _experts(self, spec: ExpertsSpec) -> int:
        """The record of a layer's experts; returns its address."""
        experts = Experts()
        experts.set(
            n=spec.n,
            n_used=spec.n_used,
            over_all=int(spec.weights == "softmax"),
            scores=self._work.scores,
            choices=self._work.choices,
        )
        self._records.append(experts)
        return experts.address

    def _head(self) -> _Planned:
        """The logits."""
        softcap = self._model.logit_softcap
        return self._product(
            PhaseName("head", NO_LAYER),
            self._work.x,
            self._weights.matrices["head"],
            self._work.logits_rows,
            norm=self._weights.vectors["norm"],
            width=self._work.config.dim,
            of_logits=1,
            scale=self._constant(self._model.logit_scale),
            softcap=self._work.constant(softcap) if softcap else 0,
        )

    def _product(
        self,
        name: PhaseName,
        source: Rows,
        matrix: Matrix,
        out: Rows,
        *,
        width: int,
        outlier: float | None = None,
        **words: int,
    ) -> _Planned:
        """Write the record of a product. width: numbers of a row of its input; outlier: see `Tuning`."""
        product = Product()
        numbers = self._work.numbers_of(width, self._work.tuning.outlier if outlier is None else outlier)
        product.set(source=source, matrix=matrix, out=out, width=padded(width), numbers=numbers, **words)
        self._records.append(product)
        return _Planned(EXPERTS if product.experts else PRODUCT, name, product.address, product)

    def _norm(self, name: PhaseName, source: Rows, out: Rows, *, width: int, **words: int) -> _Planned:
        """Write the record of a norm by itself."""
        norm, numbers = Norm(), self._work.numbers_of(width)
        norm.set(source=source, out=out, width=padded(width), numbers=numbers, **words)
        self._records.append(norm)
        return _Planned(NORM, name, norm.address)

    def _matrix(self, i: int, name: str) -> Matrix:
        """The record of a layer's matrix."""
        return self._weights.matrices[f"layers.{i}.{name}"]

    def _vector(self, i: int, name: str) -> int:
        """Address of a layer's vector, 0 where it has none."""
        return self._weights.vectors.get(f"layers.{i}.{name}", 0)

    def _constant(self, factor: float) -> int:
        """Address of a factor, 0 for 1."""
        return 0 if factor == 1.0 else self._work.constant(factor)

    def _wide_phases(self, layers: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
        """A wide step's phases: threads wait for each other after each `append`, and around what they take
        together."""
        last = max(i for i, planned in enumerate(layers) if planned.kind in _REMEMBERING)
        ends = [i + 1 for i, planned in enumerate(layers) if planned.kind == APPEND]
        ends += [j for i, planned in enumerate(layers) if planned.kind in _TOGETHER for j in (i, i + 1)]
        for start, end in itertools.pairwise(sorted({0, *ends, len(layers)})):
            finishes = {"finishes": int(start > last)}
            if layers[start].kind in _TOGETHER:
                for name, words in _middle_phases([layers[start]]):
                    yield name, {**words, **finishes}
            else:
                words = {"operand": self._operations.address(start), "n_operations": end - start}
                name = PhaseName("layer", layers[start].name.layer)
                yield name, {"kind": RUN_TOKENS, **words, **finishes}

    def _schedule(self, planned: Sequence[tuple[PhaseName, dict[str, int]]], n_head: int) -> Schedule:
        phases = Table(Phase, len(planned))
        for i, (_, words) in enumerate(planned):
            phases[i].set(**{"least": 1, **words})
        return Schedule(phases, tuple(name for name, _ in planned), n_head)


# Operations that threads share in the same way in small and middle steps.
_SHARED = {NORM: NORM_ROWS, CHOOSE: CHOOSE_EXPERTS, CONVOLVE: CONVOLVE_CHANNELS, RECUR: RECUR_HEADS}
# Those that no thread takes some tokens through by itself, whatever the step.
_TOGETHER = (EXPERTS, CONVOLVE, RECUR)
# Those by which later tokens know of earlier ones: no token leaves them out.
_REMEMBERING = (APPEND, CONVOLVE, RECUR)


def _small_phases(operations: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
    """A phase for each operation; `append` belongs to the `attend` behind it."""
    products = [planned for planned in operations if planned.product is not None]
    # Which experts' weights come next, nobody knows before the choice.
    following = {a.operand: b.operand for a, b in itertools.pairwise(products) if b.kind == PRODUCT}
    for planned in operations:
        if planned.kind == ATTEND:
            name = PhaseName("RoPE, cache, attention", planned.name.layer)
            yield name, {"kind": ATTEND_BLOCKS, "operand": planned.operand}
        elif planned.product is not None:
            product, name = planned.product, planned.name
            if product.norm and name.layer != NO_LAYER:
                name = PhaseName(f"norm, {name.operation}", name.layer)
            least = _least_items(planned)
            fetches = following.get(planned.operand, 0)
            kind = MULTIPLY if planned.kind == PRODUCT else MULTIPLY_EXPERTS
            yield name, {"kind": kind, "operand": planned.operand, "least": least, "fetches": fetches}
        elif planned.kind in _SHARED:
            yield planned.name, {"kind": _SHARED[planned.kind], "operand": planned.operand}


def _least_items(planned: _Planned) -> int:
    """What a thread takes at least for a single token: a stream of LEAST_PANELS. An item of the experts' down
    product is a panel of each, and long enough."""
    assert planned.product is not None
    if planned.product.gated:
        return LEAST_PANELS // 2
    return LEAST_PANELS if planned.kind == PRODUCT else 1


def _middle_phases(operations: Sequence[_Planned]) -> Iterator[tuple[PhaseName, dict[str, int]]]:
    """Each operation by all threads together; a product's input is made ready in a phase before it."""
    kinds = {APPEND: APPEND_TOKENS, ATTEND: ATTEND_SPANS, PRODUCT: MULTIPLY, EXPERTS: MULTIPLY_EXPERTS}
    kinds |= _SHARED
    for planned in operations:
        if planned.product is not None:
            name = planned.name
            if name.layer != NO_LAYER:
                name = PhaseName("norm" if planned.product.norm else "quantising", name.layer)
            kind = PREPARE if planned.kind == PRODUCT else PREPARE_VISITS
            yield name, {"kind": kind, "operand": planned.operand}
        yield planned.name, {"kind": kinds[planned.kind], "operand": planned.operand}
