"""Fetch a hub repository into FOLDER: `python -m chat_app.models.download.hub_child REPO FOLDER [FILE]`.

A process of its own, so that stopping the download is ending it. It prints one line "Files " and a JSON list
of {"name", "size", "sha256", "blob_id"} before it fetches them. Exit codes: 0 done; 3 `huggingface_hub` is
not installed; 4 the choice of files is not clear (a sentence on stderr); 1 anything else.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from llama_core.loaders.gguf.shard_names import files_of_model, group_by_model

NOT_INSTALLED, UNCLEAR = 3, 4
FOLDER_FILES = re.compile(
    r"^(config\.json|generation_config\.json|tokenizer.*\.json|special_tokens_map\.json|chat_template\.\w+)$"
)
SINGLE, WEIGHTS = "model.safetensors", re.compile(r"^[^/]*\.safetensors(\.index\.json)?$")


def choose(names: list[str], wanted: str | None) -> list[str]:
    """The files to fetch: `wanted` (with the model's other files), the only GGUF model, or a safetensors
    folder.

    Raises ValueError with a sentence when it is not clear which, or when the repository lacks some.
    """
    models = group_by_model(name for name in names if name.lower().endswith(".gguf"))
    listed = ", ".join(files[0] for files in models) or "none"
    if wanted:
        if wanted not in names:
            raise ValueError(f"there is no file {wanted}; its GGUF files are: {listed}")
        return _whole(files_of_model(wanted), names)
    if len(models) == 1:
        return _whole(models[0], names)
    if models:
        raise ValueError(f"it holds several models; name one of: {listed}")
    weights = _weights(names)
    if "config.json" not in names or not weights:
        raise ValueError("it holds neither a GGUF file nor a model in safetensors")
    return sorted([*weights, *(name for name in names if FOLDER_FILES.match(name))])


def _whole(files: tuple[str, ...], names: list[str]) -> list[str]:
    missing = [file for file in files if file not in names]
    if missing:
        raise ValueError(f"it lacks a file of this model: {missing[0]}")
    return list(files)


def _weights(names: list[str]) -> list[str]:
    """The one set of weights that a folder is opened by: beside Transformers' files, which are called
    model..., there may be the same weights once more under the names of the maker's own program."""
    if SINGLE in names:
        return [SINGLE]
    found = [name for name in names if WEIGHTS.match(name)]
    found = [name for name in found if name.startswith("model")] or found
    return found if any(name.endswith(".safetensors") for name in found) else []


def describe(sibling: Any) -> dict[str, Any]:
    """What the hub promises about one file."""
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return {"name": sibling.rfilename, "size": sibling.size, "sha256": sha256, "blob_id": sibling.blob_id}


def main(arguments: list[str]) -> int:
    repo, folder = arguments[0], arguments[1]
    wanted = arguments[2] if len(arguments) > 2 else None
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        return NOT_INSTALLED
    info = HfApi().model_info(repo, files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    try:
        names = choose(list(siblings), wanted)
    except ValueError as error:
        print(error, file=sys.stderr)
        return UNCLEAR
    print("Files " + json.dumps([describe(siblings[name]) for name in names]), flush=True)
    for name in names:
        hf_hub_download(repo, name, revision=info.sha, local_dir=folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
