"""A model's tokenizer and chat template: in its metadata, in the file beside it, or in the file given."""

from __future__ import annotations

import re
from pathlib import Path

from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.gguf.file import chat_template_of
from llama_core.loaders.parts import ModelParts
from llama_core.ordinary_files import read_ordinary
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.from_files import (
    tokenizer_from_json,
    tokenizer_from_llama2c,
    tokenizer_from_llama3np,
)
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf


def load_tokenizer(model: ModelParts, given: Path | None) -> tuple[Tokenizer, str | None]:
    """The tokenizer and the chat template of a model; the template is None for a base model.

    given: a tokenizer file to use instead of the model's own. The tokenizer knows the ids of the model's
    embedding, whatever its file holds: a row without a token stands for no text, a token without a row is
    left out. Raises ModelFormatError where there is none, or it is broken.
    """
    template = chat_template_of(model.path, model.metadata) if model.file_format == "gguf" else None
    file = given or model.tokenizer_file
    if file is None:
        n_rows = model.config.vocab_size
        tokenizer = tokenizer_from_gguf(model.metadata, model.path, n_rows=n_rows, template=template)
    else:
        tokenizer, its_template = _from_file(file, model)
        template = its_template or template
    return tokenizer, template


def _from_file(file: Path, model: ModelParts) -> tuple[Tokenizer, str | None]:
    """`.bin` is llama2.c's format, `.model.np` llama3.np's, anything else Hugging Face's JSON."""
    if file.is_dir():
        file = file / "tokenizer.json"
    if not file.is_file():
        problem = f"there is no {file.name!a} beside the model; give the tokenizer's file with --tokenizer"
        raise ModelFormatError(model.path, "tokenizer", problem)
    if file.suffix == ".bin":
        return tokenizer_from_llama2c(file, model.config.vocab_size), None
    if file.name.endswith(".model.np"):
        return tokenizer_from_llama3np(file, model.config.vocab_size), None
    foreign = _foreign_format(file)
    if foreign:
        advice = "the tokenizer.json of the same model would work"
        problem = f"is in {foreign}'s own format, which is not read; {advice}"
        raise UnsupportedModelError(file, "tokenizer", problem)
    return tokenizer_from_json(file, model.config.vocab_size)


def _foreign_format(file: Path) -> str:
    """Whose format a tokenizer's file is in that is not JSON, as its first bytes tell; "" for none known."""
    try:
        begin = read_ordinary(file, 512)
    except OSError:  # told by whoever reads it all
        return ""
    if (
        begin.startswith(b"\n") and b"<unk>" in begin
    ):  # a protocol buffer whose first piece is the unknown one
        return "sentencepiece"
    # Lines of a token in base64 and its rank.
    return "tiktoken" if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", begin) else ""
