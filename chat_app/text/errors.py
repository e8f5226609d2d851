"""An exception as a sentence for a person."""

from __future__ import annotations


def describe_error(error: BaseException) -> str:
    """What went wrong. Errors raised on purpose, here or in the engine, are sentences already."""
    from chat_app.models.catalogue import ModelNotFound
    from chat_app.models.download.errors import DownloadError
    from chat_app.store.export import ExportError
    from chat_app.store.transcript import TranscriptError
    from llama_core.errors import LlamaCoreError

    ours = LlamaCoreError | DownloadError | ModelNotFound | TranscriptError | ExportError
    # A KeyError or IndexError is a LookupError whose text is only the key: no sentence.
    if (isinstance(error, ours | ValueError) or type(error) is LookupError) and str(error):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There was not enough memory. {error}".strip()
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
