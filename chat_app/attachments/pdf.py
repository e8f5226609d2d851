"""The text of a PDF, by pypdf (the extra `pdf`). It comes from anywhere: what is wrong with it is told."""

from __future__ import annotations

import io
from typing import Final

from chat_app.attachments.attachment import AttachmentError

MOST_CHARACTERS: Final = 16 << 20


def pdf_text(data: bytes, shown: str) -> str:
    """The pages' text with a blank line between them; `shown` names the file in messages.

    Raises AttachmentError: pypdf is not installed, a password is needed, the file is damaged, or its pages
    hold no text.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise AttachmentError(
            f"{shown} is a PDF, and what reads one is not installed: pip install 'llama-chat[pdf]'."
        ) from None
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise AttachmentError(f"{shown} is protected by a password.")
        pages: list[str] = []
        room = MOST_CHARACTERS
        for page in reader.pages:
            pages.append(page.extract_text().strip()[:room])
            room -= len(pages[-1])
    except AttachmentError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged PDF makes pypdf raise anything
        raise AttachmentError(f"{shown} cannot be read as PDF: {error or type(error).__name__}.") from None
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise AttachmentError(f"{shown} holds no text: its pages are pictures, as a scanner makes them.")
    return text
