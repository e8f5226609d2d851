"""How much memory each backend would take for a model whose tensors are known, before one is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llama_core.architectures import describe
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.backends.jit.plan import plan_packing, shape_problem
from llama_core.backends.numpy.experts import bytes_of_a_token, is_of_expert
from llama_core.checkpoint import Tensor
from llama_core.choices import DEFAULT_KV
from llama_core.config import ModelConfig

# The context that a chat starts with where the model allows it; what the KV cache is estimated for.
CHAT_CONTEXT = 4096


def memory_needed(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Bytes by backend: weights, a KV cache of a chat's usual length in the backend's default type, both
    together, and apart from these `mapped_bytes`, pages of the file that are read while the model runs and
    that the system may drop. `problem` says instead why a backend cannot run the model; `note` that it
    keeps some weights in more bits than the file.

    tensors: by our names, checked.
    """
    experts = {name: tensor for name, tensor in tensors.items() if is_of_expert(name)}
    as_float32 = 4 * sum(math.prod(tensor.shape) for name, tensor in tensors.items() if name not in experts)
    as_float32 += bytes_of_a_token(config)
    left = sum(tensor.nbytes for tensor in experts.values())
    needed = {"numpy": _of_backend(config, as_float32, left, 4)}
    problem = shape_problem(config)
    if problem is None:
        plan = plan_packing(config, tensors)
        number_bytes = KV_KINDS[DEFAULT_KV].number_bytes
        needed["jit"] = _of_backend(config, plan.nbytes, plan.embedding.nbytes, number_bytes)
        if plan.note:
            needed["jit"]["note"] = plan.note
    else:
        needed["jit"] = {"problem": problem}
    return needed


def _of_backend(
    config: ModelConfig, weights_bytes: int, mapped_bytes: int, number_bytes: int
) -> dict[str, Any]:
    """number_bytes: of a key's or value's numbers. Snapshots of states come with a chat, see
    `backends/states.py`."""
    context = min(config.max_seq_len, CHAT_CONTEXT)
    model = describe(config)
    kv_bytes = number_bytes * context * sum(2 * attention.kv_dim for attention in model.attentions())
    kv_bytes += 2 * 4 * model.state_values  # a pass reads one state and writes the next
    return {
        "weights_bytes": weights_bytes,
        "kv_bytes": kv_bytes,
        "kv_context": context,
        "bytes": weights_bytes + kv_bytes,
        "mapped_bytes": mapped_bytes,
    }
