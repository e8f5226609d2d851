"""Granite 3 and 4, dense (IBM): Llama with four scalars. Granite MoE: the same with experts."""

from __future__ import annotations

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture, Key

SCALARS = (
    Key("embedding_scale", "embedding_scale", "embedding_multiplier"),
    Key("residual_scale", "residual_scale", "residual_multiplier"),
    Key("attention_scale", "attention.scale", "attention_multiplier"),
    Key("logit_divisor", "logit_scale", "logits_scaling"),
)
DEFAULTS = {"attention_scale": 1.0}

GRANITE = Architecture(
    name="granite",
    gguf=("granite",),
    huggingface=("granite",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    keys=SCALARS,
    defaults=DEFAULTS,
)

# An expert's gate and up stand in one tensor, those of all experts one after the other.
_EXPERTS = decoder.ExpertNames(
    router="block_sparse_moe.router.layer",
    gate="block_sparse_moe.input_linear",
    up="block_sparse_moe.input_linear",
    down="block_sparse_moe.output_linear",
)

GRANITE_MOE = Architecture(
    name="granitemoe",
    gguf=("granitemoe",),
    huggingface=("granitemoe",),
    describe=decoder.describe,
    tensors=decoder.tensors_with_experts(_EXPERTS),
    interleaved=frozenset({"gguf"}),
    keys=(*SCALARS, *decoder.EXPERT_KEYS),
    defaults=DEFAULTS,
)
