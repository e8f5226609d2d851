"""The model families that run here, one file each, found by the names that files give them.

    base       the records: tensors of a file, description of the arithmetic, what a family is
    decoder    what all families share
    llama, mistral, qwen, ...     what each changes

Loaders, both backends, the estimates of memory, conversion and synthetic models derive from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from llama_core.architectures.base import Architecture, Description, FileKind, TensorSpec
from llama_core.architectures.ernie import ERNIE4_5
from llama_core.architectures.exaone import EXAONE4
from llama_core.architectures.gemma import GEMMA2, GEMMA3
from llama_core.architectures.gpt_oss import GPT_OSS
from llama_core.architectures.granite import GRANITE, GRANITE_HYBRID, GRANITE_MOE
from llama_core.architectures.hunyuan import HUNYUAN_DENSE
from llama_core.architectures.lfm import LFM2
from llama_core.architectures.llama import LLAMA
from llama_core.architectures.mistral import MINISTRAL3, MISTRAL
from llama_core.architectures.mixtral import MIXTRAL
from llama_core.architectures.olmo import OLMO2, OLMO3
from llama_core.architectures.phi import PHI3
from llama_core.architectures.qwen import QWEN2, QWEN3, QWEN3_MOE
from llama_core.architectures.qwen3_5 import QWEN3_5
from llama_core.architectures.smollm import SMOLLM3
from llama_core.config import ModelConfig

ALL: tuple[Architecture, ...] = (
    LLAMA, MISTRAL, MIXTRAL, MINISTRAL3, QWEN2, QWEN3, QWEN3_MOE, GRANITE, GRANITE_MOE, SMOLLM3, OLMO2, OLMO3,
    EXAONE4, HUNYUAN_DENSE, ERNIE4_5, GEMMA2, GEMMA3, PHI3, GPT_OSS,
    QWEN3_5, LFM2, GRANITE_HYBRID,
)  # fmt: skip
_BY_NAME = {architecture.name: architecture for architecture in ALL}


def find(kind: FileKind, name: str) -> Architecture | None:
    """The architecture that files of `kind` call `name`, or None where it does not run here."""
    return next((found for found in ALL if name in names_of(found, kind)), None)


def known(kind: FileKind) -> str:
    """The names that `find` knows, for messages."""
    return ", ".join(name for found in ALL for name in names_of(found, kind))


def names_of(architecture: Architecture, kind: FileKind) -> tuple[str, ...]:
    """What files of `kind` call it."""
    return architecture.gguf if kind == "gguf" else architecture.huggingface


def architecture_of(config: ModelConfig) -> Architecture:
    """The architecture of a config. Raises KeyError for a name that no family has."""
    return _BY_NAME[config.architecture]


def describe(config: ModelConfig) -> Description:
    """What a model of this config computes."""
    return architecture_of(config).describe(config)


def tensor_specs(config: ModelConfig, present: Collection[str]) -> Iterator[TensorSpec]:
    """Every tensor of a model, in the order in which a token reads them.

    present: the names of the tensors at hand, which tell the optional ones that belong to the model: a group
    of which any stands in any layer. It is then wanted whole, in every layer.
    """
    specs = list(architecture_of(config).tensors(config))
    groups = {spec.optional for spec in specs if spec.optional and spec.name in present}
    for spec in specs:
        if not spec.optional or spec.optional in groups:
            yield replace(spec, optional="")


def layer_part(name: str) -> str:
    """A tensor's name within its layer: "layers.3.q_proj.bias" -> "q_proj.bias"; other names as they are."""
    return name.split(".", 2)[2] if name.startswith("layers.") else name


def tensor_shapes(config: ModelConfig, present: Collection[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of `tensor_specs`."""
    return ((spec.name, spec.shape) for spec in tensor_specs(config, present))
