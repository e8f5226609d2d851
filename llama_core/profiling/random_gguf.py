"""A random model of a published shape as a GGUF file: speed depends on shapes and types, not on values.

The file holds what a quantised download holds: the mix of types that llama.cpp gives each tensor under a name
such as Q4_K_M, a byte-level vocabulary of the usual size, norms in float32. Its blocks are random bytes with
scales set so that weights have a deviation of 1 / sqrt(columns), as a trained model's about have. The same
shape, type and seed give the same bytes.

Source of the mixes: `llama_tensor_get_type` of llama.cpp's src/llama-quant.cpp. Source of the blocks' fields:
ggml-common.h, as drawn in `llama_core/quant`.
"""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import layer_part, tensor_specs
from llama_core.architectures.base import TensorSpec
from llama_core.config import ModelConfig
from llama_core.loaders.gguf.keys import config_keys
from llama_core.loaders.gguf.writer import OutTensor, Pieces, write_gguf
from llama_core.quant.dequantize import dequantize
from llama_core.quant.quantize import quantize
from llama_core.quant.table import BY_NAME, BlockFormat
from llama_core.tokenizers.byte_bpe import BYTE_TO_CHAR
from llama_core.tokenizers.vocabulary import TokenType

PIECE_BYTES = 1 << 24  # written at a time
SAMPLE_BLOCKS = 512  # decoded to learn how large a type's values are when its scale is 1
N_RESERVED = 256  # control tokens behind the words, as Llama 3 has
LONGEST_WORD = 16

# Where the layer stands in the model, and whether a tensor there gets another type.
Where = Callable[[int, ModelConfig], bool]


def always(layer: int, config: ModelConfig) -> bool:
    """In every layer."""
    return True


def first(count: int) -> Where:
    """In so many layers from the first on."""
    return lambda layer, _: layer < count


def first_part(parts: int) -> Where:
    """In the first of so many equal parts of the layers; in none where there are fewer layers."""
    return lambda layer, config: layer < config.n_layers // parts


def sensitive(layer: int, config: ModelConfig) -> bool:
    """The first and the last eighth, and every third layer between (`use_more_bits`)."""
    n = config.n_layers
    return layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2


def few_kv_heads(layer: int, config: ModelConfig) -> bool:
    """Four queries or more to a key: v_proj is small, and more bits for it cost little."""
    return config.n_heads // config.n_kv_heads >= 4


@dataclass(frozen=True, slots=True)
class Mix:
    """What llama.cpp calls a file type. file_type: its number in `general.file_type`; base: the type of the
    matrices; others: by tensor, (type, where) in order of precedence, for those that get another one."""

    file_type: int
    base: str
    others: Mapping[str, tuple[tuple[str, Where], ...]] = field(default_factory=dict)

    def fmt(self, name: str, columns: int, config: ModelConfig) -> BlockFormat:
        """The type of the matrix `name` (as in `llama_core.checkpoint`) whose rows have `columns` values."""
        plain = BY_NAME[self.base].block_size == 1
        chosen = self.base
        if name == ("embed_tokens" if config.tie_embeddings else "lm_head") and not plain:
            fits = columns % BY_NAME[self.base].block_size == 0
            chosen = "Q6_K" if fits and self.base != "Q8_0" else "Q8_0"
        elif name.startswith("layers."):
            layer = int(name.split(".")[1])
            rules = self.others.get(layer_part(name).rpartition(".")[2], ())
            chosen = next((fmt for fmt, where in rules if where(layer, config)), self.base)
        while columns % BY_NAME[chosen].block_size:
            chosen = FALLBACKS.get(chosen, "F16")
        return BY_NAME[chosen]


# The type for rows that are no whole number of blocks.
FALLBACKS = {
    "Q2_K": "IQ4_NL",
    "Q3_K": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

_SENSITIVE_Q6 = {"v_proj": (("Q6_K", sensitive),), "down_proj": (("Q6_K", sensitive),)}

MIXES: dict[str, Mix] = {
    "F32": Mix(0, "F32"),
    "F16": Mix(1, "F16"),
    "BF16": Mix(32, "BF16"),
    "Q4_0": Mix(2, "Q4_0"),
    "Q4_1": Mix(3, "Q4_1"),
    "Q8_0": Mix(7, "Q8_0"),
    "Q5_0": Mix(8, "Q5_0"),
    "Q5_1": Mix(9, "Q5_1"),
    "Q2_K": Mix(
        10,
        "Q2_K",
        {
            "v_proj": (("Q4_K", few_kv_heads), ("Q3_K", always)),
            "down_proj": (("Q3_K", always),),
            "o_proj": (("Q3_K", always),),
        },
    ),
    "Q3_K_M": Mix(
        12,
        "Q3_K",
        {
            "v_proj": (("Q5_K", first(2)), ("Q4_K", always)),
            "down_proj": (("Q5_K", first_part(16)), ("Q4_K", always)),
            "o_proj": (("Q4_K", always),),
        },
    ),
    "Q4_K_S": Mix(14, "Q4_K", {"v_proj": (("Q5_K", first(4)),), "down_proj": (("Q5_K", first_part(8)),)}),
    "Q4_K_M": Mix(15, "Q4_K", _SENSITIVE_Q6),
    "Q5_K_M": Mix(17, "Q5_K", _SENSITIVE_Q6),
    "Q6_K": Mix(18, "Q6_K"),
    "IQ4_NL": Mix(
        25, "IQ4_NL", {"v_proj": (("Q5_K", few_kv_heads),), "down_proj": (("Q5_K", first_part(8)),)}
    ),
    "IQ4_XS": Mix(
        30, "IQ4_XS", {"v_proj": (("Q5_K", few_kv_heads),), "down_proj": (("Q5_K", first_part(8)),)}
    ),
    "MXFP4": Mix(38, "MXFP4"),
}

# The float16 fields of a block that its values grow with: (offset in bytes, value beside a scale of 1).
# Minima are set so that values lie around 0. MXFP4 has an exponent byte instead.
SCALES: dict[str, tuple[tuple[int, float], ...]] = {
    "Q4_0": ((0, 1.0),),
    "Q4_1": ((0, 1.0), (2, -7.5)),
    "Q5_0": ((0, 1.0),),
    "Q5_1": ((0, 1.0), (2, -15.5)),
    "Q8_0": ((0, 1.0),),
    "Q2_K": ((80, 1.0), (82, 1.5)),
    "Q3_K": ((108, 1.0),),
    "Q4_K": ((0, 1.0), (2, 7.5)),
    "Q5_K": ((0, 1.0), (2, 15.5)),
    "Q6_K": ((208, 1.0),),
    "IQ4_NL": ((0, 1.0),),
    "IQ4_XS": ((0, 1.0),),
}


def random_gguf(
    path: Path,
    config: ModelConfig,
    type_name: str,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model to `path`, whose folder is there, and return it; a file that is there stays as it is.

    type_name: a key of MIXES. on_progress: (tensors done, tensors in all). Raises ValueError for an unknown
    type, OSError from the file system, with a sentence where the disk has too little room.
    """
    if type_name not in MIXES:
        raise ValueError(f"unknown type {type_name!a}; {', '.join(MIXES)} can be made")
    if path.is_file():
        return path
    mix, specs = MIXES[type_name], _file_tensors(config)
    tensors = []
    for index, spec in enumerate(specs):
        shape = spec.shape
        started = partial(on_progress, index, len(specs)) if on_progress else None
        if len(shape) == 1:
            sign = -1 if layer_part(spec.name) == "decay" else 1
            fmt, pieces = BY_NAME["F32"], partial(_vector, shape[0], sign, (seed, index))
        else:
            rows, columns = math.prod(shape[:-1]), shape[-1]
            fmt = BY_NAME["F32"] if spec.exact else mix.fmt(spec.name, columns, config)
            pieces = partial(_matrix, fmt, rows, columns, (seed, index))
        tensors.append(OutTensor(spec.gguf, shape, fmt, partial(_announced, pieces, started)))
    needed, free = sum(tensor.nbytes for tensor in tensors), shutil.disk_usage(path.parent).free
    if needed > free:
        said = f"{path} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there"
        raise OSError(errno.ENOSPC, said)
    about = {"general.file_type": mix.file_type, "general.quantization_version": 2}
    write_gguf(path, config_keys(config) | about | vocabulary_keys(config.vocab_size, seed), tensors)
    if on_progress:
        on_progress(len(specs), len(specs))
    return path


def _file_tensors(config: ModelConfig) -> list[TensorSpec]:
    """The tensors of the file: those of a layer's experts stand in one, along a first axis. Raises ValueError
    for a family that keeps others together."""
    together: dict[str, list[TensorSpec]] = {}
    for spec in tensor_specs(config, ()):
        together.setdefault(spec.gguf, []).append(spec)
    if fused := [name for name, specs in together.items() if len(specs) > 1 and not specs[0].stacked]:
        raise ValueError(f"random files with a fused {fused[0]} cannot be made")
    return [
        replace(specs[0], shape=(len(specs), *specs[0].shape)) if specs[0].stacked else specs[0]
        for specs in together.values()
    ]


def _announced(pieces: Callable[[], Pieces], started: Callable[[], None] | None) -> Pieces:
    if started:
        started()
    yield from pieces()


def _vector(n: int, sign: int, key: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """A norm's weights near 1, or a state's decay near -1: (1, 4 n) bytes."""
    values = np.random.default_rng(key).standard_normal((1, n), dtype=np.float32)
    yield quantize(np.float32(sign) * (np.float32(1) + np.float32(0.1) * values), BY_NAME["F32"])


def _matrix(fmt: BlockFormat, rows: int, columns: int, key: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """(rows, columns) weights in `fmt`, a few rows at a time: (n, row_bytes) uint8."""
    rng = np.random.default_rng(key)
    deviation = 1 / np.sqrt(columns)
    step = max(1, PIECE_BYTES // fmt.row_bytes(columns))
    for start in range(0, rows, step):
        n = min(step, rows - start)
        blocks = random_blocks(fmt, n * columns // fmt.block_size, deviation, rng)
        yield blocks.reshape(n, fmt.row_bytes(columns))


def random_blocks(fmt: BlockFormat, n: int, deviation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """n valid blocks, (n, block_bytes) uint8, whose values have about this standard deviation.

    Raises ValueError for a type whose scales are not known here.
    """
    if fmt.block_size == 1:
        values = rng.standard_normal((n, 1), dtype=np.float32) * np.float32(deviation)
        return _plain(values, fmt)
    blocks = np.frombuffer(rng.bytes(n * fmt.block_bytes), np.uint8).reshape(n, fmt.block_bytes).copy()
    sample = blocks[:SAMPLE_BLOCKS]
    _set_scales(sample, fmt, np.ones(len(sample)))
    unit = float(dequantize(sample, fmt).std())
    # No two blocks of a real file have one scale.
    _set_scales(blocks, fmt, deviation / unit * rng.uniform(0.75, 1.25, n))
    return blocks


def _plain(values: NDArray[np.float32], fmt: BlockFormat) -> NDArray[np.uint8]:
    if fmt.name == "BF16":  # the upper half of float32
        return np.ascontiguousarray(values.view("<u2")[:, 1:]).view(np.uint8)
    return quantize(values, fmt)


def _set_scales(blocks: NDArray[np.uint8], fmt: BlockFormat, scale: NDArray[np.float64]) -> None:
    """blocks: (n, block_bytes), changed in place; scale: (n,)."""
    if fmt.name == "MXFP4":  # a power of two, biased by 127
        blocks[:, 0] = np.round(np.log2(scale)) + 127
        return
    if fmt.name not in SCALES:
        raise ValueError(f"random blocks of {fmt.name} cannot be made")
    for offset, factor in SCALES[fmt.name]:
        halves = (scale * factor).astype("<f2")
        blocks[:, offset : offset + 2] = halves.view(np.uint8).reshape(-1, 2)


def vocabulary_keys(vocab_size: int, seed: int = 0) -> dict[str, Any]:
    """GGUF's keys of a byte-level vocabulary: 256 bytes, words made by merging two earlier ones, and control
    tokens, the first and second of which begin and end a text.

    Raises ValueError for fewer than 512 tokens, which have no room for the bytes.
    """
    n_words = vocab_size - N_RESERVED
    if n_words < len(BYTE_TO_CHAR):
        raise ValueError(f"a vocabulary of {vocab_size} has no room for 256 bytes and {N_RESERVED} marks")
    words, merges = list(BYTE_TO_CHAR), []
    known = set(words)
    rng = np.random.default_rng((seed, vocab_size))
    while len(words) < n_words:
        for left, right in rng.integers(0, len(words), (1024, 2)).tolist():
            word = words[left] + words[right]
            if len(words) < n_words and len(word) <= LONGEST_WORD and word not in known:
                known.add(word)
                merges.append(f"{words[left]} {words[right]}")
                words.append(word)
    marks = ["<|begin_of_text|>", "<|end_of_text|>"]
    marks += [f"<|reserved_special_token_{i}|>" for i in range(N_RESERVED - len(marks))]
    types = np.full(vocab_size, TokenType.NORMAL, np.int32)
    types[n_words:] = TokenType.CONTROL
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": words + marks,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": n_words,
        "tokenizer.ggml.eos_token_id": n_words + 1,
        "tokenizer.ggml.add_bos_token": True,
    }
