"""A slow Llama in float64, written from the papers with loops. It shares no code with the engine.

Everything here works on one position and one head at a time, so that it can be checked by reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x, weight: (dim,)"""
    x = x.astype(np.float64)
    return x / math.sqrt(sum(v * v for v in x) / len(x) + eps) * weight.astype(np.float64)


def softmax(scores: np.ndarray) -> np.ndarray:
    """scores: (n,)"""
    powers = np.array([math.exp(s - max(scores)) for s in scores])
    return powers / powers.sum()


def silu(z: float) -> float:
    return z / (1.0 + math.exp(-z)) if z > -700 else 0.0


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gate, up: (hidden_dim,)"""
    return np.array([silu(float(g)) * float(u) for g, u in zip(gate, up, strict=True)])


def inverse_wavelength(j: int, config: Any, divisors: np.ndarray | None = None) -> tuple[float, float]:
    """Radians per position of pair j, and the factor on cos and sin, as each method's paper states them."""
    rotated = config.rope_dim or config.head_dim
    base = 1.0 / config.rope_theta ** (2 * j / rotated)
    scaling = config.rope_scaling
    if divisors is not None:
        base /= float(divisors[j])
    if scaling is None or (scaling.kind == "llama3" and divisors is not None):
        return base, 1.0
    if scaling.kind == "linear":
        return base / scaling.factor, 1.0
    if scaling.kind == "llama3":
        wavelength = 2 * math.pi / base
        trained = scaling.original_max_seq_len
        if wavelength < trained / scaling.high_freq_factor:
            return base, 1.0
        if wavelength > trained / scaling.low_freq_factor:
            return base / scaling.factor, 1.0
        smooth = (trained / wavelength - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        return (1 - smooth) * base / scaling.factor + smooth * base, 1.0
    trained = scaling.original_max_seq_len

    def dimension(turns: float) -> float:
        return rotated * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low = max(math.floor(dimension(scaling.beta_fast)), 0)
    high = min(math.ceil(dimension(scaling.beta_slow)), rotated - 1)
    ramp = min(1.0, max(0.0, (j - low) / max(high - low, 0.001)))
    factor = scaling.attention_factor
    if factor is None:
        factor = 1.0 if scaling.factor <= 1 else 0.1 * math.log(scaling.factor) + 1.0
    return base / scaling.factor * ramp + base * (1 - ramp), factor


def rope(head: np.ndarray, position: int, config: Any, divisors: np.ndarray | None = None) -> np.ndarray:
    """head: (head_dim,); the pair of dimension j is j + rotated / 2."""
    turned = head.astype(np.float64)
    half = (config.rope_dim or config.head_dim) // 2
    for j in range(half):
        frequency, factor = inverse_wavelength(j, config, divisors)
        point = complex(head[j], head[j + half]) * factor
        angle = position * frequency
        point *= complex(math.cos(angle), math.sin(angle))
        turned[j], turned[j + half] = point.real, point.imag
    return turned


def attention(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, position: int, window: int = 0
) -> np.ndarray:
    """One query head, (head_dim,), at `position` over keys and values, (n, head_dim)."""
    first = max(0, position - window + 1) if window else 0
    scores = np.array([float(query @ keys[p]) / math.sqrt(len(query)) for p in range(first, position + 1)])
    weights = softmax(scores)
    return sum(weight * values[first + i] for i, weight in enumerate(weights))


def forward(config: Any, tensors: Mapping[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Logits after every id, (len(ids), vocab_size) float64. tensors: by the names of a checkpoint."""
    t = {name: np.asarray(value, dtype=np.float64) for name, value in tensors.items()}
    divisors = t.get("rope_freqs")
    head_dim, heads, kv_heads = config.head_dim, config.n_heads, config.n_kv_heads
    xs = [t["embed_tokens"][i] for i in ids]
    for n in range(config.n_layers):
        w = {name.removeprefix(f"layers.{n}."): v for name, v in t.items() if name.startswith(f"layers.{n}.")}

        def split(vector: np.ndarray, count: int, norm: np.ndarray | None) -> list[np.ndarray]:
            parts = [vector[h * head_dim : (h + 1) * head_dim] for h in range(count)]
            return parts if norm is None else [rms_norm(p, norm, config.norm_eps) for p in parts]

        keys: list[list[np.ndarray]] = []
        values: list[list[np.ndarray]] = []
        queries: list[list[np.ndarray]] = []
        for position, x in enumerate(xs):
            h = rms_norm(x, w["input_layernorm"], config.norm_eps)
            q, k, v = (w[f"{c}_proj"] @ h + w.get(f"{c}_proj.bias", 0.0) for c in "qkv")
            queries.append([rope(p, position, config, divisors) for p in split(q, heads, w.get("q_norm"))])
            keys.append([rope(p, position, config, divisors) for p in split(k, kv_heads, w.get("k_norm"))])
            values.append(split(v, kv_heads, None))
        for position, x in enumerate(xs):
            mixed = []
            for head in range(heads):
                shared = head // (heads // kv_heads)
                mixed.append(
                    attention(
                        queries[position][head],
                        np.array([k[shared] for k in keys]),
                        np.array([v[shared] for v in values]),
                        position,
                        config.sliding_window,
                    )
                )
            x = x + w["o_proj"] @ np.concatenate(mixed) + w.get("o_proj.bias", 0.0)
            h = rms_norm(x, w["post_attention_layernorm"], config.norm_eps)
            gate, up = (w[f"{c}_proj"] @ h + w.get(f"{c}_proj.bias", 0.0) for c in ("gate", "up"))
            xs[position] = x + w["down_proj"] @ swiglu(gate, up) + w.get("down_proj.bias", 0.0)
    head_weight = t.get("lm_head", t["embed_tokens"])
    return np.array([head_weight @ rms_norm(x, t["norm"], config.norm_eps) for x in xs])
