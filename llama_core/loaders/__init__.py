"""Model files of every format to one `Checkpoint`.

`open_checkpoint(path)` tells the format by the file's content, not by its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_core.checkpoint import Checkpoint
    from llama_core.loaders.parts import ModelParts


def open_checkpoint(path: Path, tokenizer_path: Path | None = None) -> Checkpoint:
    """Open a model: a GGUF file (any part of a split one), a Hugging Face folder or a file in it, a llama2.c
    `.bin`, a llama3.np `.npz`. Only headers are read; tensors stay in their files.

    tokenizer_path: a tokenizer file to use instead of the one inside the model or beside it. Raises
    ModelFormatError for a file that is broken, UnsupportedModelError for one that is not run here.
    """
    # Imported here because its regex library takes longer to import than a header to read.
    from llama_core.checkpoint import Checkpoint
    from llama_core.loaders.advice import sampling_advice
    from llama_core.loaders.tokenizer_files import load_tokenizer

    model = read_model(path)
    tokenizer, template = load_tokenizer(model, Path(tokenizer_path) if tokenizer_path else None)
    return Checkpoint(
        path=model.path,
        file_format=model.file_format,
        file_bytes=model.file_bytes,
        config=model.config,
        tensors=model.tensors,
        tokenizer=tokenizer,
        chat_template=template,
        metadata=model.metadata,
        sampling=sampling_advice(model),
    )


def read_model(path: Path) -> ModelParts:
    """The model at `path` without its tokenizer; errors as `open_checkpoint`."""
    # Each format's reader is imported when it is needed: a start with one file should not pay for four.
    from llama_core.loaders.detect import FileFormat, find_model

    place, found = find_model(Path(path))
    if found is FileFormat.GGUF:
        from llama_core.loaders.gguf.file import read_gguf

        return read_gguf(place)
    if found is FileFormat.SAFETENSORS:
        from llama_core.loaders.huggingface.folder import read_folder

        return read_folder(place)
    if found is FileFormat.LLAMA2C:
        from llama_core.loaders.llama2c import read_llama2c

        return read_llama2c(place)
    from llama_core.loaders.llama3np import read_llama3np

    return read_llama3np(place)


def skim_model(path: Path) -> ModelParts:
    """The same for telling about it: of a GGUF file the long lists of its tokenizer are passed over, so that
    nothing but the header need be there. A kind of tokenizer that is not known here is an error too."""
    from llama_core.loaders.detect import FileFormat, find_model

    place, found = find_model(Path(path))
    if found is not FileFormat.GGUF:
        return read_model(place)
    from llama_core.loaders.gguf.file import model_of
    from llama_core.loaders.gguf.split import read_shards
    from llama_core.tokenizers.gguf.read import check_kind

    headers = read_shards(place, skim=True)
    check_kind(headers[0].metadata, place)
    return model_of(place, headers)
