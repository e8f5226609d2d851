"""Run as `python -m chat_app.fetch.hub_child REPO FOLDER [FILE]`: fetch a hub repository into FOLDER.

A process of its own, so that stopping the download is ending it. It prints one line "Files " and a JSON list
of {"name", "size", "sha256", "blob_id"} before it fetches them. Exit codes: 0 done; 3 `huggingface_hub` is
not installed; 4 the choice of files is not clear (a sentence on stderr); 1 anything else.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

NOT_INSTALLED, UNCLEAR = 3, 4
PIECE = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
FOLDER_FILES = re.compile(
    r"^(config\.json|generation_config\.json|tokenizer.*\.json|special_tokens_map\.json|chat_template\.\w+"
    r"|.*\.safetensors(\.index\.json)?)$"
)


def choose(names: list[str], wanted: str | None) -> list[str]:
    """The files to fetch: `wanted` (with its other pieces), the only GGUF file, or a safetensors folder.

    Raises ValueError with a sentence when it is not clear which.
    """
    ggufs = sorted(name for name in names if name.lower().endswith(".gguf"))
    if wanted:
        if wanted not in names:
            raise ValueError(f"there is no file {wanted}; its GGUF files are: {', '.join(ggufs) or 'none'}")
        return pieces(names, wanted)
    sets = {tuple(pieces(names, name)) for name in ggufs}
    if len(sets) == 1:
        return list(sets.pop())
    if ggufs:
        raise ValueError(f"it holds several models; name one of: {', '.join(ggufs)}")
    folder = sorted(name for name in names if FOLDER_FILES.match(name))
    if "config.json" not in folder or not any(name.endswith(".safetensors") for name in folder):
        raise ValueError("it holds neither a GGUF file nor a model in safetensors")
    return folder


def pieces(names: list[str], name: str) -> list[str]:
    """All pieces of a split GGUF file, or the file alone."""
    match = PIECE.search(name)
    if match is None:
        return [name]
    stem = name[: match.start()]
    return sorted(n for n in names if n.startswith(stem) and PIECE.search(n[len(stem) :]))


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
