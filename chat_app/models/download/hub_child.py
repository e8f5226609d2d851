"""Fetch a hub repository: `python -m chat_app.models.download.hub_child REPO FOLDER FILE TYPE HEAD`.

FILE and TYPE may be empty. HEAD: 0, or so many bytes of each GGUF file are enough. A process of its own, so
that stopping the download is ending it. It prints one line "Files " and a JSON list of {"name", "size",
"sha256", "blob_id"} before it fetches them into FOLDER. Each is written
to `FOLDER/KEY.part`, which is renamed to `FOLDER/KEY` when it has its size; KEY is its hash. A part that is
there already is continued, since the hash tells that it is of the same file. Exit codes: 0 done; 3
`huggingface_hub` is not installed; 4 the choice of files is not clear, 5 the hub's answer is refused (both
with a sentence on stderr); 1 anything else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chat_app.models.download.child_process import end_with_parent
from llama_core.loaders.gguf.shard_names import TYPE_IN_NAME, files_of_model, find_in, group_by_model

NOT_INSTALLED, UNCLEAR, REFUSED = 3, 4, 5
FOLDER_FILES = re.compile(
    r"^(config\.json|generation_config\.json|tokenizer.*\.json|special_tokens_map\.json|chat_template\.\w+)$"
)
SINGLE, WEIGHTS = "model.safetensors", re.compile(r"^[^/]*\.safetensors(\.index\.json)?$")

HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
CHUNK_BYTES = 1 << 20  # what a kill can cost
# Which type is taken where nothing is said: the best below 5 bits a weight, then the nearest to it.
PREFERRED = (
    *("Q4_K_M", "Q4_K_S", "Q4_K_XL", "Q4_0", "Q4_1", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0"),
    *("MXFP4", "Q3_K_M", "Q3_K_L", "F16", "BF16", "F32"),
)


def choose(names: list[str], wanted: str | None, kind: str = "") -> list[str]:
    """The files to fetch: `wanted` (with the model's other files), the GGUF model of the type `kind`, the
    only GGUF model, the one of the best type in PREFERRED, or a safetensors folder.

    Raises ValueError with a sentence when it is not clear which, or when the repository lacks some.
    """
    models = group_by_model(
        name
        for name in names
        if name.lower().endswith(".gguf") and not name.rpartition("/")[2].lower().startswith("mmproj")
    )
    listed = ", ".join(files[0] for files in models) or "none"
    if wanted:
        if wanted not in names:
            raise ValueError(f"there is no file {wanted}; its GGUF files are: {listed}")
        return _whole(files_of_model(wanted), names)
    by_type: dict[str, list[tuple[str, ...]]] = {}
    for model in models:
        by_type.setdefault(find_in(TYPE_IN_NAME, [model[0].rpartition("/")[2]]), []).append(model)
    if kind:
        found = by_type.get(kind.upper(), [])
        if not found:
            types = ", ".join(filter(None, by_type)) or "none"
            raise ValueError(f"it holds no GGUF model of type {kind.upper()}; the types there are: {types}")
        if len(found) > 1:
            several = ", ".join(model[0] for model in found)
            raise ValueError(f"it holds several models of type {kind.upper()}; name one of: {several}")
        return _whole(found[0], names)
    if len(models) == 1:
        return _whole(models[0], names)
    if models:
        best = next((by_type[kind] for kind in PREFERRED if kind in by_type), [])
        if len(best) != 1:
            raise ValueError(f"it holds several models; name one of: {listed}")
        return _whole(best[0], names)
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


def check_promise(promised: Mapping[str, Any]) -> None:
    """Raises ValueError where the hub gives no hash or no size of a file."""
    if not HASH.fullmatch(key_of(promised)):
        raise ValueError("the hub gives no hash of a file")
    if not isinstance(promised["size"], int) or promised["size"] < 0:
        raise ValueError("the hub gives no size of a file")


def key_of(promised: Mapping[str, Any]) -> str:
    """What a file is called until it is checked: its hash."""
    return str(promised["sha256"] or promised["blob_id"])


class TooManyBytes(ValueError):  # noqa: N818 - it is what arrived
    """More than a part has room for."""


class Part(io.FileIO):
    """A file that grows at its end to `limit` bytes and no further; nothing written is held back."""

    def __init__(self, path: Path, limit: int, *, cuts: bool = False) -> None:
        """cuts: bytes beyond the limit are an error only after those before it were written."""
        self._cuts = cuts
        super().__init__(path, "r+" if path.exists() else "w+")
        self._limit = limit
        self.seek(0, os.SEEK_END)
        if self.tell() > limit:
            self.seek(0)
            self.truncate()

    def write(self, data: Any) -> int:
        """Append; returns the count written. Raises ValueError for bytes beyond the limit."""
        if self.tell() + len(data) > self._limit:
            if self._cuts:
                super().write(data[: self._limit - self.tell()])
            raise TooManyBytes("more bytes arrived than were promised")
        return super().write(data)


def fetch(url: str, promised: Mapping[str, Any], folder: Path, headers: dict[str, str]) -> None:
    """Fetch one file, from where its part ends. A connection that breaks is made anew as long as each brings
    something. Raises whatever the last one raised."""
    from huggingface_hub.file_download import http_get

    target = folder / key_of(promised)
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    size = promised["size"]
    while True:
        with Part(part, size) as file:
            begin = file.tell()
            try:
                http_get(url, file, resume_size=begin, headers=dict(headers), expected_size=size)
                break
            except Exception:  # of whichever HTTP library the package has
                if not begin < file.tell() < size:
                    raise
    os.replace(part, target)


def fetch_head(
    url: str, promised: Mapping[str, Any], folder: Path, headers: dict[str, str], nbytes: int
) -> None:
    """The first `nbytes` of a file, as a part that a download goes on with. Raises as `fetch`."""
    from huggingface_hub.file_download import http_get

    target = folder / key_of(promised)
    part = target.with_name(target.name + ".part")
    limit = min(nbytes, promised["size"])
    if target.exists() or (part.exists() and part.stat().st_size >= limit):
        return
    asked = {**headers, "Range": f"bytes=0-{limit - 1}"}
    with (
        Part(part, limit, cuts=True) as file,
        contextlib.suppress(TooManyBytes),
    ):  # of a server without ranges
        http_get(url, file, resume_size=file.tell(), headers=asked, expected_size=limit)


def main(arguments: list[str]) -> int:
    """Name the files on stdout, then fetch them into FOLDER; the exit code says what went wrong."""
    end_with_parent()
    repo, folder, wanted, kind, head = arguments
    try:
        from huggingface_hub import HfApi, constants, hf_hub_url, utils
    except ImportError:
        return NOT_INSTALLED
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    info = HfApi().model_info(repo, files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    try:
        names = choose(list(siblings), wanted or None, kind)
    except ValueError as error:
        print(error, file=sys.stderr)
        return UNCLEAR
    files = [describe(siblings[name]) for name in names]
    try:
        for file in files:
            check_promise(file)
        print("Files " + json.dumps(files), flush=True)
        # Documented, but not in the package's own list of what it exports.
        headers = {**utils.build_hf_headers(), "Accept-Encoding": "identity"}  # type: ignore[attr-defined]
        for file in files:
            url = hf_hub_url(repo, file["name"], revision=info.sha)
            if not int(head):
                fetch(url, file, Path(folder), headers)
            elif file["name"].lower().endswith(".gguf"):
                fetch_head(url, file, Path(folder), headers, int(head))
    except ValueError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
