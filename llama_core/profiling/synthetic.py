"""Random weights in a published model's shape: speed depends on shapes, not on what was learnt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import layer_part, tensor_shapes
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.quant.table import F32
from llama_core.tokenizers.base import Tokenizer

# llama2.c's stories15M, the model of the diary that the laboratory grew out of.
STORIES15M = ModelConfig(
    dim=288,
    hidden_dim=768,
    n_layers=6,
    n_heads=6,
    n_kv_heads=6,
    head_dim=48,
    vocab_size=32000,
    max_seq_len=256,
    name="stories15M shape, random weights",
)

# SmolLM2-135M, the default model's shape.
SMOLLM2_135M = ModelConfig(
    dim=576,
    hidden_dim=1536,
    n_layers=30,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    vocab_size=49152,
    max_seq_len=8192,
    rope_theta=100000.0,
    name="SmolLM2-135M shape, random weights",
)

# Llama 3.2 1B and 3B, Llama 3.1 8B. Their scaling of RoPE changes a table, and no time.
LLAMA_1B = ModelConfig(
    dim=2048,
    hidden_dim=8192,
    n_layers=16,
    n_heads=32,
    n_kv_heads=8,
    head_dim=64,
    vocab_size=128256,
    max_seq_len=131072,
    rope_theta=500000.0,
    name="Llama 3.2 1B shape, random weights",
)
LLAMA_3B = ModelConfig(
    dim=3072,
    hidden_dim=8192,
    n_layers=28,
    n_heads=24,
    n_kv_heads=8,
    head_dim=128,
    vocab_size=128256,
    max_seq_len=131072,
    rope_theta=500000.0,
    name="Llama 3.2 3B shape, random weights",
)
LLAMA_8B = ModelConfig(
    dim=4096,
    hidden_dim=14336,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    vocab_size=128256,
    max_seq_len=131072,
    rope_theta=500000.0,
    tie_embeddings=False,
    name="Llama 3.1 8B shape, random weights",
)
# Qwen3-30B-A3B, a sixth of its layers and a fifth of its vocabulary: a file of 3 GB, in which a token's way
# through a layer is that of the whole model.
QWEN3_A3B = ModelConfig(
    architecture="qwen3moe",
    dim=2048,
    hidden_dim=768,
    n_layers=8,
    n_heads=32,
    n_kv_heads=4,
    head_dim=128,
    vocab_size=32768,
    max_seq_len=40960,
    rope_theta=1000000.0,
    norm_eps=1e-6,
    qk_norm=True,
    tie_embeddings=False,
    n_experts=128,
    n_experts_used=8,
    name="Qwen3-30B-A3B shape, 8 of 48 layers, random weights",
)
LFM2_350M = ModelConfig(
    architecture="lfm2",
    dim=1024,
    hidden_dim=4608,
    n_layers=16,
    n_heads=16,
    n_kv_heads=8,
    head_dim=64,
    vocab_size=65536,
    max_seq_len=128000,
    rope_theta=1000000.0,
    qk_norm=True,
    conv_kernel=3,
    recurrent_layers=tuple(i not in (2, 5, 8, 10, 12, 14) for i in range(16)),
    name="LFM2-350M shape, random weights",
)
QWEN3_5_08B = ModelConfig(
    architecture="qwen35",
    dim=1024,
    hidden_dim=3584,
    n_layers=24,
    n_heads=8,
    n_kv_heads=2,
    head_dim=256,
    rope_dim=64,
    vocab_size=248320,
    max_seq_len=262144,
    rope_theta=10000000.0,
    norm_eps=1e-6,
    qk_norm=True,
    conv_kernel=4,
    state_heads=16,
    state_groups=16,
    state_dim=128,
    state_head_dim=128,
    recurrent_layers=tuple(i % 4 != 3 for i in range(24)),
    name="Qwen3.5-0.8B shape, random weights",
)
# By the names that `bench --shape` takes, for models that are made as files.
SHAPES = {
    "135m": SMOLLM2_135M,
    "1b": LLAMA_1B,
    "3b": LLAMA_3B,
    "8b": LLAMA_8B,
    "a3b": QWEN3_A3B,
    "lfm2": LFM2_350M,
    "qwen3.5": QWEN3_5_08B,
}


class NoTokenizer:
    """Stands where a checkpoint needs a tokenizer and the experiment feeds ids."""

    kind = "none"
    vocab_size = 0
    bos_id: int | None = None
    eos_id: int | None = None
    stop_ids: frozenset[int] = frozenset()
    add_bos = False
    special_tokens: Mapping[str, int] = {}

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """No text has tokens."""
        return []

    def split_special(self, text: str) -> list[str | int]:
        """The text as one part."""
        return [text]

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """The ids among the parts."""
        return [part for part in parts if isinstance(part, int)]

    def token_bytes(self, token_id: int) -> bytes:
        """No token stands for bytes."""
        return b""

    def token_text(self, token_id: int) -> str:
        """A name by which people tell tokens apart."""
        return f"<{token_id}>"

    def decode(self, ids: Iterable[int]) -> str:
        """No token has text."""
        return ""

    def stream(self) -> NoTokenizer:
        """Itself, since there is nothing to keep between tokens."""
        return self

    def push(self, token_id: int) -> str:
        """No text."""
        return ""

    def flush(self) -> str:
        """No text is held back."""
        return ""


def random_weights(config: ModelConfig, seed: int = 0) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name, values) of every tensor: norms near 1, matrices scaled so that activations keep their size."""
    rng = np.random.default_rng(seed)
    for name, shape in tensor_shapes(config, ()):
        values = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            values = np.float32(1) + np.float32(0.1) * values
            values *= -1.0 if layer_part(name) == "decay" else 1.0
        else:
            values *= np.float32(1.0 / np.sqrt(shape[-1]))
        yield name, values


def random_checkpoint(config: ModelConfig, tokenizer: Tokenizer, seed: int = 0) -> Checkpoint:
    """A checkpoint in memory with `random_weights`, as if a loader had opened a float32 file."""
    tensors: dict[str, Tensor] = {}
    for name, values in random_weights(config, seed):
        rows = values.reshape(1, -1) if values.ndim == 1 else values
        tensors[name] = Tensor(name, values.shape, F32, rows.view(np.uint8))
    return Checkpoint(
        path=Path(f"{config.name}.synthetic"),
        file_format="gguf",
        file_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
    )
