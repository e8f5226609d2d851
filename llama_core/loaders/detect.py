"""What kind of model a path holds, by content."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.cursor import U64, open_file
from llama_core.loaders.gguf.shard_names import files_of_model
from llama_core.loaders.llama2c_header import SIZES, looks_like_llama2c


class FileFormat(Enum):
    """The formats that can be read; a folder is told by the files in it."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    LLAMA2C = "llama2c"
    NPZ = "npz"


# The magic numbers of formats before GGUF, as they stand in a file.
OLD_GGML = (b"lmgg", b"fmgg", b"tjgg", b"algg")
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def find_model(path: Path) -> tuple[Path, FileFormat]:
    """The file or folder to open for `path`, and its format.

    A folder with a config.json is a Hugging Face model, as is any of its own files (weights files and their
    index are returned as they are, since a folder may hold several); another folder stands for the one GGUF
    model in it. Raises ModelFormatError where there is no model, UnsupportedModelError for
    formats that are known but not read.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.name == "config.json":
        return _in_folder(path.parent)
    if path.name == "model.safetensors.index.json":
        return path, FileFormat.SAFETENSORS
    mapped = open_file(path).mapped()
    start = mapped[: max(16, SIZES.size)]
    if start.startswith(b"GGUF"):
        return path, FileFormat.GGUF
    if start.startswith(b"PK\x03\x04"):
        return path, FileFormat.NPZ
    if _looks_like_safetensors(start, len(mapped)):
        return path, FileFormat.SAFETENSORS
    if looks_like_llama2c(start, len(mapped)):
        return path, FileFormat.LLAMA2C
    if start.startswith(OLD_GGML):
        raise UnsupportedModelError(
            path, "byte 0", "this is a GGML file from before GGUF; a GGUF file would work"
        )
    if start.startswith(PICKLES):
        problem = "this is a pickle, which could run any code and is never opened; safetensors would work"
        raise UnsupportedModelError(path, "byte 0", problem)
    known = "GGUF, safetensors, llama2.c .bin and llama3.np .npz are read"
    raise ModelFormatError(
        path, "byte 0", f"the file starts with {start[:16]!r}, which no known model does; {known}"
    )


def _in_folder(folder: Path) -> tuple[Path, FileFormat]:
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return folder, FileFormat.SAFETENSORS
    # The first part of a split model stands for the whole.
    models = [m for m in sorted(folder.glob("*.gguf")) if files_of_model(m.name)[0] == m.name]
    if len(models) == 1:
        return models[0], FileFormat.GGUF
    if models:
        names = ", ".join(ascii(m.name) for m in models[:5])
        raise ModelFormatError(folder, "folder", f"holds {len(models)} models; name one of them: {names}")
    problem = "holds neither config.json with .safetensors files nor a .gguf file"
    raise ModelFormatError(folder, "folder", problem)


def _looks_like_safetensors(start: bytes, n_bytes: int) -> bool:
    # The length may be a lie that the reader will name; a brace behind a small number is the mark.
    return (
        len(start) > U64.size
        and start[8:9] == b"{"
        and int.from_bytes(start[:8], "little") <= max(n_bytes, 1 << 40)
    )
