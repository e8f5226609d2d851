"""Layers without attention: of the text so far they keep a state of fixed size.

    conv      (kernel - 1, conv_dim)            the last inputs of a causal convolution, one filter a channel
    memory    (n_heads, state_dim, head_dim)    a matrix for each head, which keys write and queries read

The state after a position cannot be had back from the state after a later one. How a cache goes back all the
same, `backends/numpy/states.py` says. Each kind here computes what `o_proj` is given, from the normed h:

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
class DeltaNet:
    """The gated delta rule (Yang et al., arXiv:2412.06464; Qwen3.5).

    n_groups: heads of q and k, of state_dim each. n_heads: heads of v, z and the memory, of head_dim; head h
    takes q and k number h % n_groups.
    """

    n_heads: int
    head_dim: int
    n_groups: int
    state_dim: int
    kernel: int

    @property
    def in_dim(self) -> int:
        """Rows of in_proj: q, k, v, z, b, a."""
        return self.conv_dim + self.out_dim + 2 * self.n_heads

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution: q, k, v."""
        return 2 * self.n_groups * self.state_dim + self.out_dim

    @property
    def out_dim(self) -> int:
        """Columns of o_proj."""
        return self.n_heads * self.head_dim

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """A matrix for each head of v."""
        return (self.n_heads, self.state_dim, self.head_dim)


@dataclass(frozen=True, slots=True)
class Mamba2:
    """Mamba-2's state space (Dao and Gu, arXiv:2405.21060; Granite 4 hybrid).

    n_groups: heads of q and k (the paper's C and B), of state_dim each; the n_heads heads of head_dim share
    them in runs of n_heads / n_groups.
    """

    n_heads: int
    head_dim: int
    n_groups: int
    state_dim: int
    kernel: int

    @property
    def in_dim(self) -> int:
        """Rows of in_proj: z, x, k, q, dt."""
        return self.out_dim + self.conv_dim + self.n_heads

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution: x, k, q."""
        return self.out_dim + 2 * self.n_groups * self.state_dim

    @property
    def out_dim(self) -> int:
        """Columns of o_proj."""
        return self.n_heads * self.head_dim

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """A matrix for each head."""
        return (self.n_heads, self.state_dim, self.head_dim)


Recurrent = ShortConv | DeltaNet | Mamba2


def conv_shape(spec: Recurrent) -> tuple[int, int]:
    """The part of the state that the convolution keeps: (kernel - 1, conv_dim)."""
    return (spec.kernel - 1, spec.conv_dim)


def state_values(spec: Recurrent) -> int:
    """Numbers of a layer's state."""
    return prod(conv_shape(spec)) + prod(spec.memory_shape)
