"""llama3.np's models: `NAME.model.npz` with Hugging Face's names, `tokenizer.model.np` beside it.

The archive does not say how many heads there are, nor the length of the context: the original keeps them in
its source. They come from `config.json` beside the archive ({"n_heads", "max_seq_len", ...}, each optional)
or from the table of the published sizes below. RoPE pairs rows 2j and 2j + 1. Source: the llama3.np project.
"""

from __future__ import annotations

import re
from pathlib import Path

from llama_core.checkpoint import Tensor
from llama_core.config import MAX_LAYERS, ModelConfig
from llama_core.errors import ModelFormatError, UnsupportedModelError
from llama_core.loaders.json_files import Fields, read_object
from llama_core.loaders.npz import open_npz
from llama_core.loaders.parts import ModelParts
from llama_core.loaders.tensors import translate

# dim -> (n_heads, max_seq_len) of the published stories models 260K, 15M, 42M and 110M.
PUBLISHED = {64: (8, 512), 288: (6, 256), 512: (8, 1024), 768: (12, 1024)}
NORM_EPS = 1e-6
LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,6})\.")


def read_llama3np(path: Path) -> ModelParts:
    """The model at `path`; its tokenizer is called `tokenizer.model.np` and stands beside it.

    Raises ModelFormatError, or UnsupportedModelError where the number of heads cannot be known.
    """
    arrays = open_npz(path)
    config = _config(path, arrays)
    tensors = translate(path, config, "huggingface", arrays, interleaved=True)
    beside = path.with_name("tokenizer.model.np")
    return ModelParts(path, "npz", path.stat().st_size, config, tensors, {}, beside)


def _config(path: Path, arrays: dict[str, Tensor]) -> ModelConfig:
    """What the shapes tell, completed by config.json or the table."""

    def shape(name: str) -> tuple[int, int]:
        tensor = arrays.get(name)
        if tensor is None or len(tensor.shape) != 2:
            raise ModelFormatError(path, f"array {name}", "is missing or no matrix")
        return tensor.shape[0], tensor.shape[1]

    vocab_size, dim = shape("model.embed_tokens.weight")
    kv_dim, _ = shape("model.layers.0.self_attn.k_proj.weight")
    hidden_dim, _ = shape("model.layers.0.mlp.gate_proj.weight")
    layers = {int(found[1]) for name in arrays if (found := LAYER.match(name))}
    n_layers = max(layers, default=0) + 1
    if n_layers > MAX_LAYERS:
        raise ModelFormatError(path, "layers", f"there are {n_layers:,}, the limit is {MAX_LAYERS:,}")
    beside = path.with_name("config.json")
    fields = Fields(beside, read_object(beside) if beside.is_file() else {})
    if not fields.has("n_heads") and dim not in PUBLISHED:
        raise UnsupportedModelError(
            path,
            "n_heads",
            f'is not in the file; a config.json beside it with {{"n_heads": ...}} would work (dim {dim})',
        )
    default_heads, default_length = PUBLISHED.get(dim, (0, 2048))
    n_heads = fields.integer("n_heads", default_heads)
    if n_heads < 1 or dim % n_heads or kv_dim % (dim // n_heads):
        raise ModelFormatError(
            path, "n_heads", f"is {n_heads}, which does not divide dim {dim} and kv_dim {kv_dim}"
        )
    try:
        return ModelConfig(
            dim=dim,
            hidden_dim=hidden_dim,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=kv_dim // (dim // n_heads),
            head_dim=dim // n_heads,
            vocab_size=vocab_size,
            max_seq_len=fields.integer("max_seq_len", default_length),
            norm_eps=fields.number("norm_eps", NORM_EPS),
            rope_theta=fields.number("rope_theta", 10000.0),
            tie_embeddings="lm_head.weight" not in arrays,
            name=path.name.removesuffix(".npz").removesuffix(".model"),
        )
    except ValueError as error:
        raise ModelFormatError(path, "config", str(error)) from error
