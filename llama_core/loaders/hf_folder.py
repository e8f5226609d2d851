"""A Hugging Face model folder: config.json, `*.safetensors`, tokenizer.json."""

from __future__ import annotations

from pathlib import Path

from llama_core.checkpoint import Tensor
from llama_core.config import ModelConfig
from llama_core.errors import ModelFormatError
from llama_core.loaders.cursor import quoted
from llama_core.loaders.hf_config import read_config
from llama_core.loaders.json_files import read_object
from llama_core.loaders.names import check_tensors, hf_names, refuse_tensor
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.safetensors_file import MAX_HEADER_BYTES, SafetensorsFile, open_safetensors

INDEX = "model.safetensors.index.json"
# Rotary frequencies that old checkpoints stored; every reader computes them.
IGNORED_SUFFIX = ".rotary_emb.inv_freq"


def read_folder(folder: Path) -> ModelParts:
    """The model in `folder`; its tensors stay in their files.

    Raises ModelFormatError (what is broken or missing) or UnsupportedModelError (what would work).
    """
    config_path = folder / "config.json"
    values = read_object(config_path)
    places = _tensor_places(folder)
    config = read_config(config_path, values, attention_bias=any(n.endswith("q_proj.bias") for n in places))
    tensors = _canonical_tensors(folder, config, places)
    check_tensors(folder, config, tensors)
    file_bytes = sum(file.data.size for file in {id(f): f for f in places.values()}.values())
    return ModelParts(folder, "safetensors", file_bytes, config, tensors, values, folder / "tokenizer.json")


def _tensor_places(folder: Path) -> dict[str, SafetensorsFile]:
    """The file that holds each tensor, by the index where the model is cut into several files."""
    if not (folder / INDEX).is_file():
        files = sorted(folder.glob("*.safetensors"))
        if len(files) != 1:
            found = f"{len(files)} .safetensors files and no {INDEX}"
            raise ModelFormatError(
                folder, "folder", f"holds {found}; one file, or several with an index, would work"
            )
        only = open_safetensors(files[0])
        return dict.fromkeys(only.entries, only)
    index = folder / INDEX
    weight_map = read_object(index, MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFormatError(index, "field weight_map", "does not map tensors to file names")
    opened: dict[str, SafetensorsFile] = {}
    for name in sorted(set(weight_map.values())):
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise ModelFormatError(
                index, "field weight_map", f"{quoted(name)} is no plain .safetensors file name"
            )
        opened[name] = open_safetensors(folder / name)
    for tensor, name in weight_map.items():
        if tensor not in opened[name].entries:
            raise ModelFormatError(
                folder / name, f"tensor {quoted(tensor)}", "is missing; the index says it is here"
            )
    return {tensor: opened[name] for tensor, name in weight_map.items()}


def _canonical_tensors(
    folder: Path, config: ModelConfig, places: dict[str, SafetensorsFile]
) -> dict[str, Tensor]:
    names = hf_names(config.n_layers)
    tensors: dict[str, Tensor] = {}
    for theirs, file in places.items():
        ours = names.get(theirs) or names.get(f"model.{theirs}")
        if ours is None:
            if not theirs.endswith(IGNORED_SUFFIX):
                refuse_tensor(folder, theirs, config.architecture)
        elif ours in tensors:
            raise ModelFormatError(folder, f"tensor {quoted(theirs)}", "occurs twice under two names")
        # A tied head may be stored a second time; the embedding is the one that counts.
        elif ours != "lm_head" or not config.tie_embeddings:
            tensors[ours] = file.tensor(theirs)
    return tensors
