"""The shape of a model: one frozen record, validated once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# Refused above these before anything is allocated; far beyond every published model of the family.
MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20
MAX_VOCAB = 1 << 24
MAX_KERNEL = 64

_OFF_AT_ZERO = (
    "sliding_window",
    "window_rope_theta",
    "attention_scale",
    "attention_softcap",
    "temperature_beta",
    "logit_softcap",
)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary angles are stretched beyond the trained context.

    kind "llama3": Llama 3.1's smooth scaling; "linear": position interpolation (arXiv:2306.15595);
    "yarn": arXiv:2309.00071; "longrope": arXiv:2402.13753. Fields that a kind does not use keep their
    defaults.
    """

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = 1.0
    original_max_seq_len: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True  # yarn: the ramp begins and ends at whole pairs
    short_factors: tuple[
        float, ...
    ] = ()  # longrope: divisors of each pair's frequency, in caches of up to the
    long_factors: tuple[float, ...] = ()  # original length, and in longer ones


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Every number that shapes a model; `architectures` says what is computed from them.

    Raises `ValueError` naming the field when a number cannot belong to a model; loaders turn it into
    `ModelFormatError` with the file's name.
    """

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    max_seq_len: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_dim: int = 0  # how many of head_dim are rotated; 0 means all
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = True
    attention_bias: bool = False  # a bias on q, k and v (qwen2)
    qk_norm: bool = False  # RMSNorm over each head of q and k before RoPE (qwen3)
    sliding_window: int = 0  # 0: full attention
    window_layers: tuple[bool, ...] = ()  # which layers have the window; empty: all
    window_rope_theta: float = 0.0  # rope_theta, unscaled, of layers with a window; 0: the same as the others
    rope_layers: tuple[bool, ...] = ()  # which layers have positions; empty: all
    embedding_scale: float = 1.0
    residual_scale: float = 1.0  # on what each sub-layer adds
    attention_scale: float = 0.0  # on the scores; 0: 1 / sqrt(head_dim)
    attention_softcap: float = 0.0  # 0: none
    temperature_beta: float = 0.0  # queries times 1 + beta * log(1 + floor(position / length)); 0: none
    temperature_length: int = 0
    n_experts: int = 0  # feed-forwards of hidden_dim each, of which a token takes n_experts_used; 0: one
    n_experts_used: int = 0
    experts_normalised: bool = True  # the weights of those that a token takes sum to 1
    recurrent_layers: tuple[bool, ...] = ()  # which layers have a state instead of attention; empty: none
    conv_kernel: int = 0  # positions that the convolution of such a layer sees
    state_heads: int = (
        0  # of such a layer: heads of state_head_dim columns and state_dim rows of memory each,
    )
    state_head_dim: int = 0
    state_dim: int = 0
    state_groups: int = 0  # which share so many heads of keys and queries
    logit_divisor: float = 1.0
    logit_softcap: float = 0.0  # 0: none
    architecture: str = "llama"
    name: str = ""

    def __post_init__(self) -> None:
        bounds = {
            "dim": MAX_WIDTH,
            "hidden_dim": MAX_WIDTH,
            "n_layers": MAX_LAYERS,
            "n_heads": MAX_WIDTH,
            "n_kv_heads": MAX_WIDTH,
            "head_dim": MAX_WIDTH,
            "vocab_size": MAX_VOCAB,
            "max_seq_len": 1 << 31,
        }
        for field, limit in bounds.items():
            value = getattr(self, field)
            if not 1 <= value <= limit:
                raise ValueError(f"{field} is {value}, expected 1 to {limit}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is no multiple of n_kv_heads {self.n_kv_heads}")
        if self.head_dim % 2 or self.rope_dim % 2 or not 0 <= self.rope_dim <= self.head_dim:
            raise ValueError(f"head_dim {self.head_dim} and rope_dim {self.rope_dim} must be even and fit")
        for field in ("norm_eps", "rope_theta", "embedding_scale", "residual_scale", "logit_divisor"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field} is {value}, expected a positive number")
        for field in _OFF_AT_ZERO:
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field} is {value}, expected 0 or a positive number")
        for field in ("window_layers", "rope_layers", "recurrent_layers"):
            if len(getattr(self, field)) not in (0, self.n_layers):
                raise ValueError(
                    f"{field} has {len(getattr(self, field))} entries for {self.n_layers} layers"
                )
        self._check_state()
        if self.n_experts < 0 or (self.n_experts and not 1 <= self.n_experts_used <= self.n_experts):
            raise ValueError(f"n_experts_used is {self.n_experts_used} of n_experts {self.n_experts}")
        if self.rope_scaling is not None and self.rope_scaling.kind == "longrope":
            for factors in (self.rope_scaling.short_factors, self.rope_scaling.long_factors):
                if len(factors) != self.n_rotated // 2:
                    raise ValueError(
                        f"rope_scaling has {len(factors)} factors for {self.n_rotated // 2} pairs"
                    )
        if self.temperature_beta and self.temperature_length < 1:
            raise ValueError(f"temperature_length is {self.temperature_length}, expected 1 or more")

    def _check_state(self) -> None:
        """The numbers of layers with a state."""
        for field in ("state_heads", "state_head_dim", "state_dim", "state_groups"):
            if not 0 <= getattr(self, field) <= MAX_WIDTH:
                raise ValueError(f"{field} is {getattr(self, field)}, expected 0 to {MAX_WIDTH}")
        if any(self.recurrent_layers) and not 2 <= self.conv_kernel <= MAX_KERNEL:
            raise ValueError(f"conv_kernel is {self.conv_kernel}, expected 2 to {MAX_KERNEL}")
        sizes = (self.state_heads, self.state_head_dim, self.state_dim, self.state_groups)
        if any(sizes) and not all(sizes):
            raise ValueError(f"the state has heads, head_dim, dim and groups {sizes}, expected all or none")
        if self.state_heads and self.state_heads % self.state_groups:
            raise ValueError(
                f"state_heads {self.state_heads} is no multiple of state_groups {self.state_groups}"
            )

    @property
    def q_dim(self) -> int:
        """Columns of all query heads together (it need not equal `dim`)."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Columns of all key (or value) heads together."""
        return self.n_kv_heads * self.head_dim

    @property
    def n_rotated(self) -> int:
        """How many dimensions of a head RoPE rotates."""
        return self.rope_dim or self.head_dim
