"""A foreign file's tensors to ours: names, tensors that stand in one another, the order of RoPE's rows, and
the check of every shape against the config. What a family's files look like, `architectures` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.architectures import architecture_of, tensor_specs
from llama_core.architectures.base import FileKind, TensorSpec
from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.file_rows import read_rows
from llama_core.loaders.cursor import quoted

# Of a tensor of a family: the specs of ours that stand in it, one after the other.
Places = dict[str, list[TensorSpec]]


def places(kind: FileKind, specs: Iterable[TensorSpec]) -> Places:
    """Foreign name -> specs. Tensors that files of `kind` do not have are left out."""
    found: Places = {}
    for spec in specs:
        if name := spec.foreign(kind):
            found.setdefault(name, []).append(spec)
    return found


def translate(
    path: Path,
    config: ModelConfig,
    kind: FileKind,
    theirs: Mapping[str, Tensor],
    *,
    ignored: tuple[str, ...] = (),
    interleaved: bool | None = None,
) -> dict[str, Tensor]:
    """A file's tensors under our names, each held against the config, rows in our order.

    theirs: by foreign name. ignored: ends of the names of tensors that say nothing, beside the beginnings
    that the family knows. interleaved: whether RoPE pairs rows 2j and 2j + 1 in this file; by default as the
    family says. Errors as `check_tensors`.
    """
    by_name = places(kind, architecture_of(config).tensors(config))
    passed_over = architecture_of(config).passed_over(config)
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        specs = by_name.get(name)
        if specs is not None:
            by_columns = kind == "huggingface" and specs[0].by_columns
            ours |= (_by_columns if by_columns else _parts)(path, tensor, specs)
        elif not (name.endswith(ignored) or name.startswith(passed_over)):
            refuse_tensor(path, name, config)
    check_tensors(path, config, ours)
    if kind == "huggingface":
        ours = _as_ours(ours, config)
    if interleaved is None:
        interleaved = kind in architecture_of(config).interleaved
    return in_our_row_order(ours, config) if interleaved else ours


def _parts(path: Path, tensor: Tensor, specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """Our tensors that stand in a foreign one: views of its rows (of its numbers, where it is one row)."""
    if len(specs) == 1:
        return {specs[0].name: _squeezed(tensor, specs[0].shape)}
    columns, total = specs[0].shape[-1], sum(prod(spec.shape) for spec in specs)
    in_one_row = len(tensor.shape) == 1
    if prod(tensor.shape) != total or (not in_one_row and tensor.shape[-1] != columns):
        raise ModelFormatError(
            path,
            f"tensor {quoted(tensor.name)}",
            f"has shape {tensor.shape}, the config asks for {total // columns} rows of {columns}",
        )
    parts, start = {}, 0
    for spec in specs:
        if in_one_row:  # vectors: no format of blocks
            stop = start + spec.shape[0] * tensor.fmt.block_bytes
            raw = tensor.raw[:, start:stop]
        else:
            stop = start + prod(spec.shape[:-1])
            raw = tensor.raw[start:stop]
        parts[spec.name] = Tensor(tensor.name, spec.shape, tensor.fmt, raw)
        start = stop
    return parts


def _squeezed(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor without axes of length 1 that `shape` does not have: filters (n, 1, kernel), vectors
    (n, 1)."""
    theirs, ours = ([n for n in axes if n > 1] for axes in (tensor.shape, shape))
    if tensor.shape == shape or theirs != ours:
        return tensor
    rows = tensor.raw if len(shape) > 1 else tensor.raw.reshape(-1, int(tensor.raw.size))
    return replace(tensor, shape=shape, raw=rows)


def _by_columns(path: Path, tensor: Tensor, specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """Our tensors out of a foreign one that holds (matrices, in, out), or (matrices, out) of vectors: copies.

    Where several specs share a matrix they take its columns by turns.
    """
    n, together = tensor.shape[0], max(1, len(specs) // tensor.shape[0])
    wanted = (n, *reversed(specs[0].shape[1:]), together * specs[0].shape[0])
    if len(specs) != n * together or tensor.shape != wanted or tensor.fmt.block_size != 1:
        raise ModelFormatError(
            path, f"tensor {quoted(tensor.name)}", f"has shape {tensor.shape}, the config asks for {wanted}"
        )
    numbers = read_rows(tensor.raw).view(f"u{tensor.fmt.block_bytes}").reshape(tensor.shape)
    parts = {}
    for index, spec in enumerate(specs):
        own = np.ascontiguousarray(numbers[index // together][..., index % together :: together].T)
        raw = own.view(np.uint8).reshape(1 if own.ndim == 1 else len(own), -1)
        parts[spec.name] = Tensor(tensor.name, spec.shape, tensor.fmt, raw)
    return parts


def _as_ours(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Numbers that Hugging Face's file holds in another form or in another order of heads, as ours."""
    found = dict(tensors)
    for spec in tensor_specs(config, tensors):
        if spec.stored:
            found[spec.name] = replace(found[spec.name], stored=spec.stored)
        if spec.heads is not None and spec.heads.columns:
            found[spec.name] = replace(found[spec.name], column_order=spec.heads.indices(spec.shape[1]))
        elif spec.heads is not None:
            found[spec.name] = replace(found[spec.name], row_order=spec.heads.indices(spec.shape[0]))
    return found


def check_tensors(path: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Hold every tensor against the config once, so that nothing behind the loader has to.

    Raises ModelFormatError for a missing tensor or a wrong shape, UnsupportedModelError for a tensor that
    this engine would silently leave out of the computation.
    """
    wanted = {spec.name: spec.shape for spec in tensor_specs(config, tensors)}
    for name, shape in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelFormatError(path, f"tensor {name}", f"is missing; the config asks for shape {shape}")
        if tensor.shape != shape:
            raise ModelFormatError(
                path,
                f"tensor {quoted(tensor.name)}",
                f"has shape {tensor.shape}, the config asks for {shape}",
            )
    for name, tensor in tensors.items():
        if name not in wanted:
            refuse_tensor(path, tensor.name, config)


def refuse_tensor(path: Path, name: str, config: ModelConfig) -> None:
    """Raise UnsupportedModelError for a tensor that has no place in the model."""
    raise UnsupportedModelError(
        path,
        f"tensor {quoted(name)}",
        f"has no place in a {config.architecture} model as this engine runs it",
    )


def interleaved_rows(n_heads: int, head_dim: int, n_rotated: int) -> NDArray[np.intp]:
    """Where our rows stand in a file whose RoPE pairs rows 2j and 2j + 1 of a head.

    Ours pairs j with j + n_rotated / 2, so our row j of a head is the file's 2j, our j + n_rotated / 2 the
    file's 2j + 1; rows beyond `n_rotated` are not rotated and stay. q and k are permuted alike, which leaves
    their dot product as it is. Returns (n_heads * head_dim,).
    """
    head = np.arange(head_dim, dtype=np.intp)
    head[:n_rotated] = head[:n_rotated].reshape(-1, 2).T.reshape(-1)
    return (np.arange(n_heads, dtype=np.intp)[:, None] * head_dim + head).reshape(-1)


def rope_row_orders(config: ModelConfig) -> dict[str, NDArray[np.intp]]:
    """Row orders, (rows,), by our names, for files that pair 2j with 2j + 1."""
    heads = {spec.name: spec.rotated_heads for spec in architecture_of(config).tensors(config)}
    orders = {n: interleaved_rows(n, config.head_dim, config.n_rotated) for n in set(heads.values()) if n}
    return {name: orders[n] for name, n in heads.items() if n}


def in_our_row_order(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a file that pairs 2j with 2j + 1, q and k in our order.

    Their shapes must have been checked: the orders are as long as the config says.
    """
    orders = rope_row_orders(config)
    return {name: replace(tensor, row_order=orders.get(name)) for name, tensor in tensors.items()}
