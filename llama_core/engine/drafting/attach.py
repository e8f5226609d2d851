"""A small model joins an engine that is loaded, to guess what its model will say."""

from __future__ import annotations

from pathlib import Path

from llama_core.choices import DEFAULT_KV, KvType, WeightForm
from llama_core.engine.drafting.draft_model import DraftModel
from llama_core.engine.drafting.first_of import FirstOf
from llama_core.engine.load import jit_model
from llama_core.engine.text import TextEngine
from llama_core.errors import LlamaCoreError, UnsupportedModelError
from llama_core.tokenizers.base import Tokenizer


def add_draft_model(
    engine: TextEngine,
    path: Path | str,
    *,
    kv: KvType | None = None,
    weights: WeightForm = "file",
    kernel_cache: Path | None = None,
) -> None:
    """Let the small model at `path` guess what `engine`'s will say, behind prompt lookup. The other arguments
    are those of `load_engine`.

    Raises UnsupportedModelError where its ids mean other tokens, LlamaCoreError where NumPy computes, and as
    `load_engine` does. The engine is as before then.
    """
    from llama_core.loaders import open_checkpoint

    lookup = engine.engine.drafter
    if lookup is None:
        # Its logits depend on how many rows are computed at once, and so would the reply on the guesses.
        raise LlamaCoreError("a draft model needs the compiled backend")
    checkpoint = open_checkpoint(Path(path))
    problem = different_ids(engine.tokenizer, checkpoint.tokenizer)
    if problem:
        raise UnsupportedModelError(path, "vocabulary", f"it cannot guess for the other: {problem}")
    model = jit_model(checkpoint, engine.model.threads, kv or DEFAULT_KV, weights, kernel_cache)
    try:
        small = DraftModel(model, engine.ctx_size, engine.model.config.vocab_size)
    except BaseException:  # Ctrl+C too: the model has threads
        model.close()
        raise
    engine.engine.drafter = FirstOf(lookup, small)


def different_ids(one: Tokenizer, other: Tokenizer) -> str:
    """The first id that two tokenizers read differently, as a phrase for people; empty where there is none.
    Ids that only one of them has count only where they stand for text: embeddings are padded to round sizes.
    """
    both = min(one.vocab_size, other.vocab_size)
    for i in range(both):
        if one.token_bytes(i) != other.token_bytes(i):
            return f"token {i} is {other.token_text(i)!r} here and {one.token_text(i)!r} there"
    for longer in (one, other):
        for i in range(both, longer.vocab_size):
            if longer.token_bytes(i):
                return f"one has {one.vocab_size:,} tokens and the other {other.vocab_size:,}"
    if one.stop_ids != other.stop_ids and not one.stop_ids & other.stop_ids:
        return "a reply ends at other tokens"
    return ""
