"""An exception as a sentence for a person."""

from __future__ import annotations


def describe_error(error: BaseException) -> str:
    """What went wrong. Errors raised on purpose, here or in the engine, are sentences already."""
    from chat_app.fetch.download_errors import DownloadError
    from chat_app.models import ModelNotFound
    from llama_core.errors import LlamaCoreError

    if isinstance(error, LlamaCoreError | DownloadError | ModelNotFound | ValueError) and str(error):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There was not enough memory. {error}".strip()
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
