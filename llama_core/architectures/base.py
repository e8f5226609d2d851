"""What an architecture is: the tensors of its files, and what one of its layers computes.

Two kinds of records, both typed and frozen:

    TensorSpec      one tensor: our name and shape, and where it stands in a foreign file
    Description     the arithmetic from token ids to logits, layer by layer, from which both backends run

A family's file builds both from a `ModelConfig`; nothing else in the engine compares an architecture's name.

    x = embed_tokens[ids] * embedding_scale
    for each layer:
        x += residual_scale * after(mixer(before(x)))           before, after: norms that stand there or not
        x += residual_scale * after(feed_forward(before(x)))
    logits = softcap(lm_head @ norm(x) * logit_scale)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures.recurrent import Recurrent, state_values
from llama_core.config import ModelConfig, RopeScaling

FileKind = Literal["gguf", "huggingface"]
Activation = Literal["silu", "gelu_tanh", "clamped_swiglu"]
# How a file holds a vector that is not as it stands: less 1, or as log(-value).
Stored = Literal["", "less_one", "log_of_negative"]


@dataclass(frozen=True, slots=True)
class HeadOrder:
    """n_heads heads of `size` rows (or columns) each, which stand by group in Hugging Face's file and by
    turns with us: our head h is head (h % n_groups) * (n_heads / n_groups) + h // n_groups there."""

    n_heads: int
    n_groups: int
    size: int
    columns: bool = False

    def indices(self, n: int) -> NDArray[np.intp]:
        """Where each of our n rows stands there, (n,); those before the last n_heads * size stay."""
        heads = np.arange(self.n_heads, dtype=np.intp).reshape(self.n_groups, -1).T.reshape(-1, 1)
        moved = (heads * self.size + np.arange(self.size, dtype=np.intp)).reshape(-1)
        first = n - len(moved)
        return np.concatenate((np.arange(first, dtype=np.intp), first + moved))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model.

    name: ours, "layers.3.q_proj". shape: NumPy's order, rows are outputs. gguf, huggingface: the full names
    in these formats; several specs with the same foreign name stand in that tensor one after the other, in
    the order of the table (a fused qkv_proj, the experts of a layer). stacked: in GGUF they do so along a new
    first axis. optional: the name of a group that a file has whole and in every layer, or not at all.
    rotated_heads: the rows are so many heads that RoPE rotates, for files that pair rows 2j and 2j + 1.
    stored: how Hugging Face's file holds a vector. heads: its order of heads, where it is another.
    by_columns: it holds matrices the other way round, and specs with the same name take their columns by
    turns. exact: stays float32 in files of smaller types.
    """

    name: str
    shape: tuple[int, ...]
    gguf: str
    huggingface: str
    stacked: bool = False
    optional: str = ""
    rotated_heads: int = 0
    stored: Stored = ""
    heads: HeadOrder | None = None
    by_columns: bool = False
    exact: bool = False

    def foreign(self, kind: FileKind) -> str:
        """The name in files of `kind`."""
        return self.gguf if kind == "gguf" else self.huggingface


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions (arXiv:2104.09864): dimension j of a head is rotated with dimension j + n_rotated / 2
    by position * theta ** (-2 j / n_rotated), stretched by `scaling`; the rest of the head is left as it
    is."""

    theta: float
    n_rotated: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class QueryTemperature:
    """Queries at position p are multiplied by 1 + beta * log(1 + floor(p / length)) (Llama 4, Ministral
    3)."""

    beta: float
    length: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention with grouped queries.

    scale: on the scores. window: positions that a token sees, its own included; 0: all before it. rope: None
    for a layer without positions. softcap: scores become softcap * tanh(score / softcap); 0: they do not.
    sinks: a learnt logit for each head joins the softmax and takes no value. bias: on q, k and v. qk_norm:
    an RMS norm of q and k, over each head or over all heads together. norm_after_rope: it follows RoPE.
    gated: behind each head's rows of q_proj stand those of its gate; the head's output is multiplied by
    sigmoid(gate) (arXiv:2505.06708).
    """

    n_heads: int
    n_kv_heads: int
    head_dim: int
    scale: float
    window: int = 0
    rope: Rope | None = None
    softcap: float = 0.0
    sinks: bool = False
    bias: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    norm_after_rope: bool = False
    temperature: QueryTemperature | None = None
    gated: bool = False

    @property
    def q_dim(self) -> int:
        """Columns of all query heads together."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Columns of all key (or value) heads together."""
        return self.n_kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Experts:
    """A router chooses n_used of n feed-forwards for each token; their outputs are summed by its weights.

    weights: "softmax" over all experts, of which those of the chosen are taken; "normalised": these divided
    by their sum, which is the softmax over the chosen alone. bias: the router has one, and so has each
    expert.
    """

    n: int
    n_used: int
    weights: Literal["softmax", "normalised"]
    bias: bool = False


@dataclass(frozen=True, slots=True)
class FeedForward:
    """down_proj(activation(gate_proj(x)) * up_proj(x)), once or by experts.

    clamped_swiglu: (up + 1) * gate * sigmoid(1.702 * gate), gate at most 7, up from -7 to 7 (gpt-oss).
    """

    hidden_dim: int
    activation: Activation = "silu"
    experts: Experts | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """Two sub-layers, each added to the residual stream. mixer: what lets a token see those before it.
    norm_before, norm_after: an RMS norm stands before each sub-layer, and after each (before the sum)."""

    mixer: Attention | Recurrent
    feed_forward: FeedForward
    norm_before: bool = True
    norm_after: bool = False
    residual_scale: float = 1.0

    @property
    def attention(self) -> Attention:
        """The mixer of a layer that is known to have attention. Raises TypeError for another."""
        if not isinstance(self.mixer, Attention):
            raise TypeError(f"a layer with {type(self.mixer).__name__} has no attention")
        return self.mixer


@dataclass(frozen=True, slots=True)
class Description:
    """A whole model. logit_scale is a factor, applied before the soft cap (0: none)."""

    layers: tuple[Layer, ...]
    norm_eps: float
    embedding_scale: float = 1.0
    logit_scale: float = 1.0
    logit_softcap: float = 0.0

    def attentions(self) -> list[Attention]:
        """Those of the layers that have attention, in order."""
        return [layer.mixer for layer in self.layers if isinstance(layer.mixer, Attention)]

    def recurrents(self) -> dict[int, Recurrent]:
        """Those of the layers that have a state instead, by the layer's number."""
        return {i: x.mixer for i, x in enumerate(self.layers) if not isinstance(x.mixer, Attention)}

    @property
    def state_values(self) -> int:
        """Numbers of one state of all layers."""
        return sum(map(state_values, self.recurrents().values()))


class Keys(Protocol):
    """Typed look-ups in a file's own settings: GGUF's metadata below the architecture's prefix, or
    config.json.

    Each raises `ModelFormatError` that names the key, where the value has another type or is missing and
    there is no default.
    """

    def has(self, key: str) -> bool:
        """Whether the file says anything under this name."""

    def states(self, key: str) -> bool:
        """Whether the key is there, if only with null."""

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; without a default it must be there. Raises ModelFormatError."""

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; without a default it must be there. Raises ModelFormatError."""

    def boolean(self, key: str, default: bool) -> bool:
        """True or false. Raises ModelFormatError for anything else."""

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it must be there. Raises ModelFormatError."""

    def items(self, key: str) -> list[Any]:
        """A list of numbers, truths or strings."""

    def is_array(self, key: str) -> bool:
        """Whether the key is there with a list."""

    def error(self, key: str, problem: str) -> Exception:
        """The error that says what is wrong with a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A number of `ModelConfig` that stands under a name of its own in each format ("" where it has none)."""

    field: str
    gguf: str = ""
    huggingface: str = ""
    whole: bool = False  # a whole number

    def read(self, keys: Keys, name: str) -> float:
        """The number under one of its names."""
        return keys.integer(name) if self.whole else keys.number(name)


# What a family reads beyond numbers of one key each: fields of ModelConfig from the file's settings and from
# the fields known so far.
Extra = Callable[[Keys, Mapping[str, Any]], Mapping[str, Any]]


def nothing(_keys: Keys, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """No further fields."""
    return {}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family, or a member of one.

    name: what `ModelConfig.architecture` says. gguf, huggingface: its `general.architecture`s and
    `model_type`s. interleaved: formats whose q and k pair rows 2j and 2j + 1 in RoPE. keys: its numbers
    beyond those that all families share; from_gguf, from_huggingface and to_gguf: what it reads and writes
    beyond these. gguf_name: the `general.architecture` to write, by default the first of `gguf`. activations:
    names that config.json may give to the one it has, the usual one first. defaults: fields of which a
    config.json without the key means something else than most families' do. passed_over: what the names of
    tensors begin with that are none of the layers'.
    """

    name: str
    gguf: tuple[str, ...]
    huggingface: tuple[str, ...]
    describe: Callable[[ModelConfig], Description]
    tensors: Callable[[ModelConfig], Iterable[TensorSpec]]
    interleaved: frozenset[FileKind] = frozenset()
    keys: tuple[Key, ...] = ()
    from_gguf: Extra = nothing
    from_huggingface: Extra = nothing
    to_gguf: Callable[[ModelConfig], Mapping[str, Any]] = lambda _config: {}
    gguf_name: Callable[[ModelConfig], str] | None = None
    activations: tuple[str, ...] = ("silu", "swish")
    defaults: Mapping[str, Any] = field(default_factory=dict)
    passed_over: Callable[[ModelConfig], tuple[str, ...]] = lambda _config: ()
