"""A Hugging Face model folder: config.json, `*.safetensors`, tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llama_core.architectures import architecture_of
from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.huggingface.config import read_config
from llama_core.loaders.huggingface.safetensors import MAX_HEADER_BYTES, SafetensorsFile, open_safetensors
from llama_core.loaders.huggingface.text_part import HEAD, has_text_part, text_names, text_values
from llama_core.loaders.huggingface.text_part import KEY as TEXT_KEY
from llama_core.loaders.json_files import read_object
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.tensors import places, translate

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Rotary frequencies that old checkpoints stored; every reader computes them.
IGNORED = (".rotary_emb.inv_freq",)
ATTENTION_BIAS = (".q_proj.bias", ".qkv_proj.bias")


def read_folder(place: Path) -> ModelParts:
    """The model at `place`, a folder or one of its weights files; its tensors stay in their files.

    Raises ModelFormatError (what is broken or missing) or UnsupportedModelError (what would work).
    """
    folder = place if place.is_dir() else place.parent
    config_path = folder / "config.json"
    values = read_object(config_path)
    files = _tensor_places(folder, None if place == folder else place)
    names = {name: name for name in files}
    text, where = values, ""
    if has_text_part(values):
        names = text_names(folder, files)
        text, where = text_values(config_path, values, has_head=HEAD in names), f"{TEXT_KEY}."
    biased = any(name.endswith(ATTENTION_BIAS) for name in names)
    config = read_config(config_path, text, attention_bias=biased, where=where)
    theirs = _tensors(folder, config, names, files)
    tensors = translate(folder, config, "huggingface", theirs, ignored=IGNORED)
    file_bytes = sum(file.file.size for file in {id(f): f for f in files.values()}.values())
    return ModelParts(folder, "safetensors", file_bytes, config, tensors, values, folder / "tokenizer.json")


def _tensor_places(folder: Path, named: Path | None) -> dict[str, SafetensorsFile]:
    """The file that holds each tensor: the one that was named, else model.safetensors, else the parts that
    the index tells, else the only one. A named part, or the index itself, stands for all of the index."""
    index = folder / INDEX
    if named is None:
        single = folder / SINGLE
        named = single if single.is_file() else index if index.is_file() else _only_file(folder)
    if index.is_file():
        weight_map = _weight_map(index)
        if named == index or named.name in weight_map.values():
            return _indexed_places(folder, weight_map)
    only = open_safetensors(named)
    return dict.fromkeys(only.entries, only)


def _only_file(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    names = ", ".join(quoted(file.name) for file in files[:5])
    problem = f"holds {len(files)} .safetensors files, no {SINGLE} and no {INDEX}; name one of them: {names}"
    raise ModelFormatError(folder, "folder", problem)


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> name of the file in the same folder."""
    weight_map = read_object(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFormatError(index, "field weight_map", "does not map tensors to file names")
    for name in sorted(set(weight_map.values())):
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise ModelFormatError(
                index, "field weight_map", f"{quoted(name)} is no plain .safetensors file name"
            )
    return weight_map


def _indexed_places(folder: Path, weight_map: dict[str, str]) -> dict[str, SafetensorsFile]:
    opened = {name: open_safetensors(folder / name) for name in sorted(set(weight_map.values()))}
    for tensor, name in weight_map.items():
        if tensor not in opened[name].entries:
            raise ModelFormatError(
                folder / name, f"tensor {quoted(tensor)}", "is missing; the index says it is here"
            )
    return {tensor: opened[name] for tensor, name in weight_map.items()}


def _tensors(
    folder: Path, config: ModelConfig, names: Mapping[str, str], files: Mapping[str, SafetensorsFile]
) -> dict[str, Tensor]:
    """The tensors by the names that the family gives them; a base model's lack the prefix "model.". names:
    name -> name as stored."""
    known = places("huggingface", architecture_of(config).tensors(config))
    tensors: dict[str, Tensor] = {}
    for plain, stored in names.items():
        name = plain if plain in known or f"model.{plain}" not in known else f"model.{plain}"
        if name in tensors:
            raise ModelFormatError(folder, f"tensor {quoted(stored)}", "occurs twice under two names")
        # A tied head may be stored a second time; the embedding is the one that counts.
        if name != HEAD or not config.tie_embeddings:
            tensors[name] = files[stored].tensor(stored)
    return tensors
