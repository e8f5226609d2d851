"""Llama 1 to 3 and what keeps to its form (arXiv:2302.13971, 2407.21783): the plain decoder."""

from __future__ import annotations

from llama_core.architectures import decoder
from llama_core.architectures.base import Architecture

# With experts it is a Mixtral. llama.cpp gives these files no window, whatever their keys say; a Llama has
# none in config.json either.
LLAMA = Architecture(
    name="llama",
    gguf=("llama",),
    huggingface=("llama",),
    describe=decoder.describe,
    tensors=decoder.tensors,
    interleaved=frozenset({"gguf"}),
    keys=decoder.EXPERT_KEYS,
)
