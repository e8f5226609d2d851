"""Layers without attention: of the text so far they keep a state of fixed size.

    conv      (kernel - 1, conv_dim)            the last inputs of a causal convolution, one filter a channel
    memory    (n_heads, state_dim, head_dim)    a matrix for each head, which keys write and queries read

The state after a position cannot be had back from the state after a later one. How a cache goes back all the
same, `backends/states.py` says. Each kind here computes what `o_proj` is given, from the normed h:

    ShortConv    b, c, x = in_proj(h)
                 y = c * conv(b * x)

    DeltaNet     q, k, v, z, b, a = in_proj(h)                  q, k, v = silu(conv(q, k, v))
                 memory *= exp(decay * softplus(a + dt_bias))   q, k of length 1, q / sqrt(state_dim)
                 memory += outer(k, sigmoid(b) * (v - k @ memory))
                 y = norm(q @ memory) * silu(z)                 norm: over each head

    Mamba2       z, x, k, q, dt = in_proj(h)                    x, k, q = silu(conv(x, k, q))
                 dt = softplus(dt + dt_bias)
                 memory = exp(decay * dt) * memory + outer(k, dt * x)
                 y = norm((q @ memory + skip * x) * silu(z))    norm: over all heads together
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Self

from llama_core.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ShortConv:
    """A gated short convolution over all channels (LFM2, arXiv:2511.23404). kernel: positions it sees."""

    dim: int
    kernel: int

    @property
    def in_dim(self) -> int:
        """Rows of in_proj."""
        return 3 * self.dim

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution."""
        return self.dim

    @property
    def out_dim(self) -> int:
        """Columns of o_proj."""
        return self.dim

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """It has none."""
        return (0,)


@dataclass(frozen=True, slots=True)
class MatrixMemory:
    """A convolution, and behind it a matrix for each head.

    n_groups: heads of k and q, of state_dim each. n_heads: heads of all else and of the memory, of head_dim;
    n_heads / n_groups share a key. kernel: positions that the convolution sees.
    """

    n_heads: int
    head_dim: int
    n_groups: int
    state_dim: int
    kernel: int

    @classmethod
    def of(cls, config: ModelConfig) -> Self:
        """The one that a model's layers have."""
        return cls(
            n_heads=config.state_heads,
            head_dim=config.state_head_dim,
            n_groups=config.state_groups,
            state_dim=config.state_dim,
            kernel=config.conv_kernel,
        )

    @property
    def per_group(self) -> int:
        """Heads that share a key."""
        return self.n_heads // self.n_groups

    @property
    def key_dim(self) -> int:
        """Numbers of all k, and of all q."""
        return self.n_groups * self.state_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution: k, q, and what is written."""
        return 2 * self.key_dim + self.out_dim

    @property
    def out_dim(self) -> int:
        """Columns of o_proj."""
        return self.n_heads * self.head_dim

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """A matrix for each head."""
        return (self.n_heads, self.state_dim, self.head_dim)


@dataclass(frozen=True, slots=True)
class DeltaNet(MatrixMemory):
    """The gated delta rule (Yang et al., arXiv:2412.06464; Qwen3.5). Head h takes q and k number
    h % n_groups."""

    @property
    def in_dim(self) -> int:
        """Rows of in_proj: q, k, v, z, b, a."""
        return self.conv_dim + self.out_dim + 2 * self.n_heads


@dataclass(frozen=True, slots=True)
class Mamba2(MatrixMemory):
    """Mamba-2's state space (Dao and Gu, arXiv:2405.21060; Granite 4 hybrid): k and q are the paper's B and
    C. Heads share them in runs."""

    @property
    def in_dim(self) -> int:
        """Rows of in_proj: z, x, k, q, dt."""
        return self.out_dim + self.conv_dim + self.n_heads


Recurrent = ShortConv | DeltaNet | Mamba2


def conv_shape(spec: Recurrent) -> tuple[int, int]:
    """The part of the state that the convolution keeps: (kernel - 1, conv_dim)."""
    return (spec.kernel - 1, spec.conv_dim)


def state_values(spec: Recurrent) -> int:
    """Numbers of a layer's state."""
    return prod(conv_shape(spec)) + prod(spec.memory_shape)
