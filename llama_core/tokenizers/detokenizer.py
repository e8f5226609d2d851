"""Bytes back to text, as they arrive."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Utf8Stream:
    """Implements `base.StreamDecoder`: O(1) a token, never half a character.

    A sequence that cannot become valid UTF-8 turns into U+FFFD as soon as that is certain, by the rule of
    the Unicode standard (one U+FFFD per maximal broken part), the same as `bytes.decode("utf-8", "replace")`.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes; may be empty. Raises IndexError for an id outside."""
        return self._decoder.decode(self._token_bytes(token_id))

    def flush(self) -> str:
        """U+FFFD for a sequence left unfinished, or nothing. The stream may be used again afterwards."""
        return self._decoder.decode(b"", final=True)
