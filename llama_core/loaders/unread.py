"""A file's own settings that no reader asked for: told, so that none changes the arithmetic in silence."""

from __future__ import annotations

from pathlib import Path

from llama_core.loaders.cursor import quoted


def tell(path: Path, what: str, name: str) -> None:
    """Warn in the log that a setting has no effect. what: "field" or "metadata key"."""
    import logging  # here, because a look at a file imports as little as it can

    logger = logging.getLogger(__name__)
    logger.warning("%s: the %s %s is not known here and has no effect", path, what, quoted(name))
