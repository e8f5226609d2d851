"""Any model that opens here, written as GGUF with the tensor type of one's choice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import architecture_of, tensor_specs
from llama_core.architectures.base import TensorSpec
from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders import read_model
from llama_core.loaders.advice import sampling_advice, to_gguf
from llama_core.loaders.gguf.config import read_config
from llama_core.loaders.gguf.file import TEMPLATE_KEY
from llama_core.loaders.gguf.keys import KEYS, config_keys, rope_vectors
from llama_core.loaders.gguf.writer import OutTensor, Pieces, write_gguf
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.tensors import places, rope_row_orders
from llama_core.quant.dequantize import dequantize
from llama_core.quant.quantize import quantize
from llama_core.quant.table import BY_NAME, F16, F32, Q8_0, BlockFormat

# The type's name for people -> the number that `general.file_type` gives it.
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7}
QUANTIZATION_VERSION = 2
# Values read, quantised and written at a time: 1 MiB as float32.
PIECE_VALUES = 1 << 18

_log = logging.getLogger(__name__)


def convert(
    source: Path,
    target: Path,
    type_name: str,
    *,
    tokenizer_path: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] = _log.warning,
) -> Path:
    """Write the model at `source` as the GGUF file `target` and return `target`.

    type_name: q8_0, q4_0, q4_1, f16 or f32, for the matrices; norms and biases stay float32. With a 4-bit
    type the matrix that computes the logits becomes Q8_0 (it is the most sensitive), and a matrix whose rows
    are no whole blocks becomes F16. A tensor that already has its type is copied as it is. tokenizer_path: as
    for `open_checkpoint`. on_progress: (tensors done, tensors in all). on_note: hears, in sentences,
    what the file cannot say of the tokenizer, before the first tensor; by default each is a warning in the
    log, which Python prints on stderr.

    The target appears only when it is whole. Raises ModelFormatError or UnsupportedModelError about the
    source, ValueError for an unknown type or for weights that are no numbers, OSError about the target.
    """
    if type_name not in FILE_TYPES:
        raise ValueError(f"unknown type {type_name!a}; {', '.join(sorted(FILE_TYPES))} can be written")
    model = read_model(source)
    if target.exists() and any(target.samefile(file) for file in _files_of(model)):
        raise ValueError(f"{target} is the model itself; choose another file to write")
    metadata, notes = _metadata(model, type_name, tokenizer_path)
    for note in notes:
        on_note(note)
    stored = _in_file_order(_with_divisors(model), model.config)
    targets = places("gguf", tensor_specs(model.config, stored))
    _check_expressible(model, metadata, {name: _shape_of(specs) for name, specs in targets.items()})
    tensors = []
    for index, (name, specs) in enumerate(targets.items()):
        parts = [stored[spec.name] for spec in specs]
        fmt = _format_for(specs[0], parts[0], BY_NAME[type_name.upper()], model.config)
        started = partial(on_progress, index, len(targets)) if on_progress else None
        pieces = partial(_pieces, model.path, parts, fmt, started)
        tensors.append(OutTensor(name, _shape_of(specs), fmt, pieces))
    write_gguf(target, metadata, tensors)
    if on_progress:
        on_progress(len(targets), len(targets))
    return target


def _shape_of(specs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """The shape of the GGUF tensor in which our tensors stand one after the other."""
    shape = specs[0].shape
    if specs[0].stacked:
        return (len(specs), *shape)
    return (sum(spec.shape[0] for spec in specs), *shape[1:])


def _check_expressible(
    model: ModelParts, metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise UnsupportedModelError where the config, read back from the metadata, would not be the same: GGUF
    has no key for everything that a config.json can say."""
    after = asdict(read_config(model.path, metadata, shapes))
    for field, value in asdict(model.config).items():
        by_tensor = field == "rope_scaling" and bool(rope_vectors(model.config))
        if field in ("architecture", "name") or by_tensor:
            continue
        if _as_written(value) != _as_written(after[field]):
            raise UnsupportedModelError(
                model.path, f"config {field}", f"is {value}; files of this architecture have no key for that"
            )


def _as_written(value: Any) -> Any:
    """A value as GGUF's float32 keep it, for comparison."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _as_written(inner) for key, inner in value.items()}
    return [_as_written(inner) for inner in value] if isinstance(value, list | tuple) else value


def _with_divisors(model: ModelParts) -> Mapping[str, Tensor]:
    """The model's tensors, with the scaling of RoPE that GGUF keeps in tensors."""
    vectors = {
        name: Tensor(name, values.shape, F32, values.astype("<f4").view(np.uint8)[None, :])
        for name, values in rope_vectors(model.config).items()
        if name not in model.tensors
    }
    return {**model.tensors, **vectors}


def _files_of(model: ModelParts) -> list[Path]:
    return [p for p in model.path.iterdir() if p.is_file()] if model.path.is_dir() else [model.path]


def _in_file_order(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors with their rows in the order in which a GGUF file of this architecture keeps them.

    Where RoPE pairs rows 2j and 2j + 1 there, our row r stands at `order[r]`, the file's row f is our row
    `argsort(order)[f]`.
    """
    orders = rope_row_orders(config) if "gguf" in architecture_of(config).interleaved else {}
    return {name: _reordered(tensor, orders.get(name)) for name, tensor in tensors.items()}


def _reordered(tensor: Tensor, order: NDArray[np.intp] | None) -> Tensor:
    if order is None and tensor.row_order is None:
        return tensor
    n_rows = tensor.shape[0]
    ours = np.arange(n_rows, dtype=np.intp) if tensor.row_order is None else tensor.row_order
    rows = ours if order is None else ours[np.argsort(order)]
    unmoved = bool((rows == np.arange(n_rows)).all())
    return replace(tensor, row_order=None if unmoved else rows)


def _format_for(spec: TensorSpec, tensor: Tensor, wanted: BlockFormat, config: ModelConfig) -> BlockFormat:
    if len(tensor.shape) == 1 or spec.exact:
        return F32
    head = "embed_tokens" if config.tie_embeddings else "lm_head"
    if spec.name == head and wanted.name.startswith("Q4"):
        wanted = Q8_0
    return wanted if tensor.shape[1] % wanted.block_size == 0 else F16


def _pieces(
    path: Path, parts: Sequence[Tensor], fmt: BlockFormat, started: Callable[[], None] | None
) -> Pieces:
    """The rows of tensors that stand in one, in `fmt`, a few at a time."""
    if started:
        started()
    for tensor in parts:
        if len(tensor.shape) == 1:
            yield tensor.to_float32().astype("<f4").view(np.uint8)[None, :]
            continue
        step = max(1, PIECE_VALUES // tensor.shape[1])
        for start in range(0, tensor.shape[0], step):
            rows = tensor.rows(start, start + step)
            yield rows if fmt == tensor.fmt else _requantize(path, tensor, rows, fmt)


def _requantize(path: Path, tensor: Tensor, rows: NDArray[np.uint8], fmt: BlockFormat) -> NDArray[np.uint8]:
    try:
        return quantize(dequantize(rows, tensor.fmt), fmt)
    except ValueError as error:
        raise ModelFormatError(path, f"tensor {tensor.name!a}", str(error)) from error


def _metadata(
    model: ModelParts, type_name: str, tokenizer_path: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """(keys of the file to write, notes about what they do not say); those of a GGUF source are kept, but for
    what is about its layout."""
    about_layout = ("general.alignment", "general.file_type", "general.quantization_version")
    notes: list[str] = []
    if model.file_format == "gguf" and tokenizer_path is None:
        kept = {
            k: v for k, v in model.metadata.items() if k not in about_layout and not k.startswith("split.")
        }
        # Layers that guess further tokens are not read, and so not written.
        prefix = f"{model.metadata['general.architecture']}."
        if kept.pop(prefix + "nextn_predict_layers", 0):
            kept[prefix + KEYS["n_layers"]] = model.config.n_layers
    else:
        tokenizer_keys, notes = _tokenizer_keys(model, tokenizer_path)
        kept = config_keys(model.config) | tokenizer_keys | to_gguf(sampling_advice(model))
    about_file = {
        "general.file_type": FILE_TYPES[type_name],
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    return kept | about_file, notes


def _tokenizer_keys(model: ModelParts, tokenizer_path: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The tokenizer and the chat template of a model that keeps them in files of their own, and notes."""
    from llama_core.loaders.tokenizer_files import load_tokenizer
    from llama_core.tokenizers.gguf.export import tokenizer_to_gguf

    tokenizer, template = load_tokenizer(model, tokenizer_path)
    try:
        keys, notes = tokenizer_to_gguf(tokenizer, model.config.vocab_size)
    except ValueError as error:
        raise UnsupportedModelError(model.path, "tokenizer", str(error)) from error
    return keys | ({TEMPLATE_KEY: template} if template else {}), notes
