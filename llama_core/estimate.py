"""How fast a model will be on this machine, told from its header and the machine's rates: nothing is loaded.

Decoding a token reads the weights that it uses once, and the keys and values before it; beside that each
layer costs some time that does not depend on its size. A prompt costs its multiply-adds. Of both, the kernels
reach a part of what the machine allows; the parts here were measured (see `PARTS`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llama_core.architectures import describe
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.backends.jit.plan import kind_of, shape_problem
from llama_core.backends.numpy.experts import is_of_expert
from llama_core.checkpoint import Tensor
from llama_core.choices import DEFAULT_KV
from llama_core.config import ModelConfig
from llama_core.memory_needed import CHAT_CONTEXT, memory_needed
from llama_core.roofline.rates import MachineRates

# What is estimated for: the first token after a prompt of so many, and the tokens behind it.
PROMPT_TOKENS = 500
# The estimate is a middle; what a machine does lies within this share of it (see the tests of real files).
SPREAD = 0.25
F32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Work:
    """What a model asks of a machine, with one backend.

    memory_bytes: the weights and the keys and values of a chat of usual length. token_bytes: read for a token
    behind a prompt. integer_ops, float_ops: multiply-adds of a prompt's token with the weights, and
    attention_ops those with keys and values.
    """

    memory_bytes: int
    token_bytes: int
    integer_ops: int
    float_ops: int
    attention_ops: int
    n_layers: int


@dataclass(frozen=True, slots=True)
class Parts:
    """How much of a rate a backend reaches: of memory, of the arithmetic with weights, of that with keys and
    values (as a part of the float32 rate); and the seconds that a layer of one token takes beside them."""

    memory: float
    integer: float
    float32: float
    attention: float
    layer_s: float


# Measured on a quiet Zen 4 with two threads, with models of 135M, 0.5B and 1B.
PARTS: Mapping[str, Parts] = {
    "jit": Parts(memory=0.91, integer=0.68, float32=0.5, attention=0.3, layer_s=1e-5),
    "numpy": Parts(memory=0.75, integer=1.0, float32=0.75, attention=0.3, layer_s=1.5e-4),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """Middles: tokens per second behind a prompt of PROMPT_TOKENS, and seconds to its first token."""

    decode_per_s: float
    first_token_s: float


def works_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Work | str]:
    """What the model asks with each backend, or the sentence that says why that cannot run it.

    tensors: by our names, checked.
    """
    works: dict[str, Work | str] = {"numpy": _work(config, tensors, "numpy")}
    problem = shape_problem(config)
    works["jit"] = _work(config, tensors, "jit") if problem is None else problem
    return works


def _work(config: ModelConfig, tensors: Mapping[str, Tensor], backend: str) -> Work:
    needed = memory_needed(config, tensors)[backend]
    active = config.n_experts_used / config.n_experts if config.n_experts else 1.0
    head = "embed_tokens" if config.tie_embeddings else "lm_head"
    token_bytes = integer_ops = float_ops = 0.0
    for name, tensor in tensors.items():
        if len(tensor.shape) < 2 or (name == "embed_tokens" and name != head):
            continue
        values = math.prod(tensor.shape) * (active if is_of_expert(name) else 1.0)
        as_integers = backend == "jit" and kind_of(tensor).floats is None
        bits = 8 * tensor.nbytes / math.prod(tensor.shape)
        token_bytes += values * (bits / 8 if backend == "jit" else F32_BYTES)
        if name == head:  # of a prompt only the last token needs it
            continue
        if as_integers:
            integer_ops += values
        else:
            float_ops += values
    attentions = describe(config).attentions()
    number_bytes = F32_BYTES if backend == "numpy" else KV_KINDS[DEFAULT_KV].number_bytes
    kv_bytes = PROMPT_TOKENS * number_bytes * sum(2 * attention.kv_dim for attention in attentions)
    attention_ops = sum(
        2 * attention.q_dim * min(PROMPT_TOKENS // 2, attention.window or PROMPT_TOKENS)
        for attention in attentions
    )
    return Work(
        memory_bytes=needed["bytes"],
        token_bytes=round(token_bytes) + kv_bytes,
        integer_ops=round(integer_ops),
        float_ops=round(float_ops),
        attention_ops=attention_ops,
        n_layers=config.n_layers,
    )


# Whether models with experts run is asked with the smallest of them.
EXPERTS_EXAMPLE = ModelConfig(
    dim=64, hidden_dim=64, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=32, vocab_size=64, max_seq_len=64,
    n_experts=2, n_experts_used=1, architecture="qwen3moe",
)  # fmt: skip
# Bits a weight of a whole file of each type, its embedding and scales included.
FILE_BITS: Mapping[str, float] = {"Q4_K_M": 4.9, "Q8_0": 8.5, "MXFP4": 4.6}
# What a file alone does not tell, as it is in models of 0.3 to 30 billion weights.
USUAL_LAYERS, USUAL_KV_SHARE, USUAL_ATTENTION_SHARE, USUAL_HEAD_SHARE = 32, 0.15, 0.03, 0.1


def rough_work(file_bytes: int, type_name: str, backend: str, active: float = 1.0) -> Work:
    """What a model asks of which nothing but its file's size and type are known. active: the share of its
    weights that a token uses. Raises KeyError for a type without FILE_BITS."""
    values = file_bytes * 8 / FILE_BITS[type_name]
    used = values * active
    value_bytes = FILE_BITS[type_name] / 8 if backend == "jit" else F32_BYTES
    kv_bytes = file_bytes * USUAL_KV_SHARE
    ops = round(used * (1 - USUAL_HEAD_SHARE))
    return Work(
        memory_bytes=round(values * value_bytes + kv_bytes),
        token_bytes=round(used * value_bytes + active * kv_bytes * PROMPT_TOKENS / CHAT_CONTEXT),
        integer_ops=ops if backend == "jit" else 0,
        float_ops=0 if backend == "jit" else ops,
        attention_ops=round(used * USUAL_ATTENTION_SHARE),
        n_layers=USUAL_LAYERS,
    )


def expected(work: Work, backend: str, rates: MachineRates) -> Expected:
    """How fast a machine of these rates does the work."""
    parts = PARTS[backend]
    token_s = work.token_bytes / (rates.bytes_per_s * parts.memory) + work.n_layers * parts.layer_s
    prompt_s = (
        (work.integer_ops / (rates.integer_per_s * parts.integer) if work.integer_ops else 0.0)
        + work.float_ops / (rates.float32_per_s * parts.float32)
        + work.attention_ops / (rates.float32_per_s * parts.attention)
    )
    return Expected(1 / token_s, PROMPT_TOKENS * prompt_s + token_s)
