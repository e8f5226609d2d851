"""Any described model in float64, a position at a time: what `architectures.base` says, in plain words.

Shares the description with the engine and none of its arithmetic. That the descriptions are right, the
references of another implementation say (tests/llama_core/architectures/test_oracle.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from llama_core.architectures.base import Attention, Description, FeedForward
from llama_core.architectures.recurrent import DeltaNet, Mamba2, Recurrent, ShortConv
from tests.support import reference

Array = np.ndarray


def activate(kind: str, gate: Array, up: Array) -> Array:
    if kind == "silu":
        return reference.swiglu(gate, up)
    if kind == "gelu_tanh":
        inner = [math.sqrt(2 / math.pi) * (g + 0.044715 * g**3) for g in gate]
        return np.array([0.5 * g * (1 + math.tanh(z)) for g, z in zip(gate, inner, strict=True)]) * up
    gate, up = np.minimum(gate, 7.0), np.maximum(np.minimum(up, 7.0), -7.0)
    return np.array([reference.silu(1.702 * g) / 1.702 for g in gate]) * (up + 1)


def turned(head: Array, position: int, spec: Attention) -> Array:
    if spec.rope is None:
        return head
    out, half = head.copy(), spec.rope.n_rotated // 2
    for j in range(half):
        angle = position * spec.rope.theta ** (-j / half)
        point = complex(head[j], head[j + half]) * complex(math.cos(angle), math.sin(angle))
        out[j], out[j + half] = point.real, point.imag
    return out


def heads_of(
    vector: Array, n: int, norm: Array | None, position: int, spec: Attention, eps: float
) -> list[Array]:
    """The heads of q or k, normed and turned in the layer's order."""
    if norm is not None and spec.qk_norm == "width":
        vector, norm = reference.rms_norm(vector, norm, eps), None
    heads = list(vector.reshape(n, spec.head_dim))
    if norm is not None and not spec.norm_after_rope:
        heads = [reference.rms_norm(head, norm, eps) for head in heads]
    heads = [turned(head, position, spec) for head in heads]
    if norm is not None and spec.norm_after_rope:
        heads = [reference.rms_norm(head, norm, eps) for head in heads]
    return heads


def attended(spec: Attention, w: Mapping[str, Array], hs: list[Array], eps: float) -> list[Array]:
    """What o_proj is given at each position."""
    queries, keys, values, gates, out = [], [], [], [], []
    for position, h in enumerate(hs):
        q, k, v = (w[f"{c}_proj"] @ h + w.get(f"{c}_proj.bias", 0.0) for c in "qkv")
        if spec.gated:
            q, gate = q.reshape(spec.n_heads, 2, spec.head_dim).swapaxes(0, 1)
            q = q.reshape(-1)
            gates.append(np.array([reference.silu(g) / g for g in gate.reshape(-1)]))
        queries.append(heads_of(q, spec.n_heads, w.get("q_norm"), position, spec, eps))
        keys.append(heads_of(k, spec.n_kv_heads, w.get("k_norm"), position, spec, eps))
        values.append(v.reshape(spec.n_kv_heads, spec.head_dim))
    for position in range(len(hs)):
        first = max(0, position - spec.window + 1) if spec.window else 0
        mixed = []
        for head, query in enumerate(queries[position]):
            shared = head // (spec.n_heads // spec.n_kv_heads)
            if spec.temperature is not None:
                query = query * (
                    1 + spec.temperature.beta * math.log(1 + position // spec.temperature.length)
                )
            scores = [spec.scale * float(query @ keys[p][shared]) for p in range(first, position + 1)]
            if spec.softcap:
                scores = [spec.softcap * math.tanh(score / spec.softcap) for score in scores]
            if spec.sinks:
                scores.append(float(w["sinks"][head]))
            shares = reference.softmax(np.array(scores))[: position + 1 - first]
            mixed.append(sum(share * values[first + i][shared] for i, share in enumerate(shares)))
        out.append(np.concatenate(mixed) * (gates[position] if gates else 1.0))
    return out


def filtered(w: Mapping[str, Array], xs: list[Array]) -> list[Array]:
    """Each channel's filter over the inputs up to each position."""
    kernel = w["conv"].shape[1]
    past = [np.zeros_like(xs[0])] * (kernel - 1) + xs
    return [
        sum(past[t + tap] * w["conv"][:, tap] for tap in range(kernel)) + w.get("conv.bias", 0.0)
        for t in range(len(xs))
    ]


def softplus(x: Array) -> Array:
    return np.array([math.log1p(math.exp(value)) for value in x])


def silu(x: Array) -> Array:
    return np.array([reference.silu(value) for value in x])


def short_conv(spec: ShortConv, w: Mapping[str, Array], hs: list[Array], eps: float) -> list[Array]:
    b, c, x = zip(*(np.split(w["in_proj"] @ h + w.get("in_proj.bias", 0.0), 3) for h in hs), strict=True)
    ys = filtered(w, [one * other for one, other in zip(b, x, strict=True)])
    return [one * y for one, y in zip(c, ys, strict=True)]


def delta_net(spec: DeltaNet, w: Mapping[str, Array], hs: list[Array], eps: float) -> list[Array]:
    memories = [np.zeros((spec.state_dim, spec.head_dim)) for _ in range(spec.n_heads)]
    key_dim, out = spec.n_groups * spec.state_dim, []
    for h, qkv in zip(hs, filtered(w, [w["in_proj_qkv"] @ h for h in hs]), strict=True):
        q, k, v = np.split(silu(qkv), (key_dim, 2 * key_dim))
        z, betas = w["in_proj_z"] @ h, [reference.silu(b) / b for b in w["in_proj_b"] @ h]
        steps = softplus(w["in_proj_a"] @ h + w["dt_bias"])
        ys = []
        for head in range(spec.n_heads):
            own = slice((head % spec.n_groups) * spec.state_dim, (head % spec.n_groups + 1) * spec.state_dim)
            query, key = (x[own] / math.sqrt(float(x[own] @ x[own]) + 1e-6) for x in (q, k))
            value = v.reshape(spec.n_heads, -1)[head]
            faded = math.exp(w["decay"][head] * steps[head]) * memories[head]
            memories[head] = faded + np.outer(key, betas[head] * (value - key @ faded))
            ys.append(
                reference.rms_norm(query @ memories[head] / math.sqrt(spec.state_dim), w["state_norm"], eps)
            )
        out.append(np.concatenate(ys) * silu(z))
    return out


def mamba2(spec: Mamba2, w: Mapping[str, Array], hs: list[Array], eps: float) -> list[Array]:
    memories = [np.zeros((spec.state_dim, spec.head_dim)) for _ in range(spec.n_heads)]
    at = (spec.out_dim, spec.out_dim + spec.conv_dim)
    zs, xs, dts = zip(*(np.split(w["in_proj"] @ h + w.get("in_proj.bias", 0.0), at) for h in hs), strict=True)
    per_group, out = spec.n_heads // spec.n_groups, []
    for z, xkq, dt in zip(zs, filtered(w, list(xs)), dts, strict=True):
        x, k, q = np.split(silu(xkq), (spec.out_dim, spec.out_dim + spec.n_groups * spec.state_dim))
        steps = softplus(dt + w["dt_bias"])
        ys = []
        for head in range(spec.n_heads):
            value = x.reshape(spec.n_heads, -1)[head]
            key, query = (part.reshape(spec.n_groups, -1)[head // per_group] for part in (k, q))
            faded = math.exp(w["decay"][head] * steps[head]) * memories[head]
            memories[head] = faded + np.outer(key, steps[head] * value)
            ys.append(query @ memories[head] + w["skip"][head] * value)
        out.append(reference.rms_norm(np.concatenate(ys) * silu(z), w["state_norm"], eps))
    return out


def mixed_by(spec: Attention | Recurrent, w: Mapping[str, Array], hs: list[Array], eps: float) -> list[Array]:
    """What o_proj is given at each position."""
    if isinstance(spec, Attention):
        return attended(spec, w, hs, eps)
    if isinstance(spec, ShortConv):
        return short_conv(spec, w, hs, eps)
    return delta_net(spec, w, hs, eps) if isinstance(spec, DeltaNet) else mamba2(spec, w, hs, eps)


def fed(spec: FeedForward, w: Mapping[str, Array], h: Array) -> Array:
    def one(prefix: str) -> Array:
        gate, up = (w[f"{prefix}{c}_proj"] @ h + w.get(f"{prefix}{c}_proj.bias", 0.0) for c in ("gate", "up"))
        hidden = activate(spec.activation, gate, up)
        return w[f"{prefix}down_proj"] @ hidden + w.get(f"{prefix}down_proj.bias", 0.0)

    if spec.experts is None:
        return one("")
    shares = reference.softmax(w["router"] @ h + w.get("router.bias", 0.0))
    chosen = sorted(range(spec.experts.n), key=lambda e: -shares[e])[: spec.experts.n_used]
    total = sum(shares[e] for e in chosen) if spec.experts.weights == "normalised" else 1.0
    return sum(shares[e] / total * one(f"experts.{e}.") for e in chosen)


def forward(model: Description, tensors: Mapping[str, Array], ids: list[int]) -> Array:
    """Logits after every id, (len(ids), vocab_size) float64. tensors: by our names. No scaling of RoPE."""
    t = {name: np.asarray(value, dtype=np.float64) for name, value in tensors.items()}
    eps = model.norm_eps

    def normed(x: Array, weight: Array | None) -> Array:
        return x if weight is None else reference.rms_norm(x, weight, eps)

    xs = [t["embed_tokens"][i] * model.embedding_scale for i in ids]
    for i, layer in enumerate(model.layers):
        w = {name.removeprefix(f"layers.{i}."): v for name, v in t.items() if name.startswith(f"layers.{i}.")}
        hs = mixed_by(layer.mixer, w, [normed(x, w.get("input_layernorm")) for x in xs], eps)
        ys = [normed(w["o_proj"] @ h + w.get("o_proj.bias", 0.0), w.get("attention_out_norm")) for h in hs]
        xs = [x + layer.residual_scale * y for x, y in zip(xs, ys, strict=True)]
        hs = [fed(layer.feed_forward, w, normed(x, w.get("post_attention_layernorm"))) for x in xs]
        ys = [normed(h, w.get("feed_forward_out_norm")) for h in hs]
        xs = [x + layer.residual_scale * y for x, y in zip(xs, ys, strict=True)]
    head = t.get("lm_head", t["embed_tokens"])
    logits = np.array([head @ reference.rms_norm(x, t["norm"], eps) for x in xs]) * model.logit_scale
    return model.logit_softcap * np.tanh(logits / model.logit_softcap) if model.logit_softcap else logits
