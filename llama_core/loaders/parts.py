"""A model without its tokenizer: what `inspect` and `convert` need, and what `open_checkpoint` completes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig


@dataclass(frozen=True, slots=True, eq=False)
class ModelParts:
    """The fields of a `Checkpoint`, less tokenizer and chat template.

    tokenizer_file: the file beside the model that its format keeps the tokenizer in; None where it stands
    in the metadata (GGUF).
    """

    path: Path
    file_format: str
    file_bytes: int
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_file: Path | None = None
