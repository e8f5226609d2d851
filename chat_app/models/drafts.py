"""Which small model guesses for which large one, and whether it is here (`--draft`)."""

from __future__ import annotations

import re
from pathlib import Path

from chat_app.models.catalogue import local_models, resolve_model

AUTO, NONE = "auto", "none"

# Names of large models, and of the small ones of the same makers and vocabulary, the better first. Both are
# looked for in names without punctuation, such as "qwen38binstructq4km".
_PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"qwen3(4b|8b|14b|32b|30ba3b)", ("qwen306b", "qwen317b")),
    (r"qwen25coder(3b|7b|14b|32b)", ("qwen25coder05b", "qwen25coder15b", "qwen2505b")),
    (r"qwen25(3b|7b|14b|32b|72b)", ("qwen2505b", "qwen2515b")),
    (r"llama3[123]?(8b|70b)", ("llama321b",)),
    (r"smollm217b", ("smollm2135m", "smollm2360m")),
    (r"gemma3(4b|12b|27b)", ("gemma3270m", "gemma31b")),
)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def names_of_drafts(name: str) -> tuple[str, ...]:
    """The small models that can guess for the model called `name`, without punctuation; the better first."""
    plain = _plain(name)
    return next((drafts for large, drafts in _PAIRS if re.search(large, plain)), ())


def find_draft(wanted: str, path: Path) -> Path | None:
    """The file of the model that guesses for the one at `path`. wanted: its name or file, "auto" for a known
    pair of which both are here, "none". Raises ModelNotFound for a name that is not here."""
    if wanted == NONE:
        return None
    if wanted != AUTO:
        return resolve_model(wanted)
    drafts = names_of_drafts(path.stem)
    if not drafts:
        return None
    here = [model for model in local_models() if model.is_whole and model.path != path]
    return next((model.path for draft in drafts for model in here if draft in _plain(model.name)), None)
