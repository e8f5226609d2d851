"""What a download that failed says: each message tells why, and how to try again."""

from __future__ import annotations

from chat_app.text.errors import SentenceError


class DownloadError(SentenceError):
    """The model was not fetched. What was there before still is."""


class DownloadCancelled(DownloadError):  # noqa: N818 - it is what the caller asked for
    """The caller's `cancelled()` answered True."""


def retry(name: str) -> str:
    """The sentence that ends every failure."""
    return f"Try again with: llama-chat models pull {name}"
