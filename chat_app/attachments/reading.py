"""One file as text: plain text in any encoding that can be told, or a PDF. The rest is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from chat_app.attachments.attachment import Attachment, AttachmentError
from chat_app.text.decode import decode_text
from chat_app.text.formatting import mib
from chat_app.text.sanitize import clean_line
from llama_core.ordinary_files import open_ordinary

MOST_BYTES: Final = 16 << 20  # some four million tokens: more than any context
PDF_MARK: Final = b"%PDF-"
_CONTROLS: Final = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")  # that no text holds; ESC colours some logs
# How files begin that are no text, and what they are.
_SIGNATURES: Final = (
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a sound, film or picture (RIFF)"),
    (b"OggS", "a sound (Ogg)"),
    (b"ID3", "a sound (MP3)"),
    (b"PK\x03\x04", "a ZIP archive, as documents of office programs are"),
    (b"\xd0\xcf\x11\xe0", "a document of an old office program"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"\xfd7zXZ", "compressed (xz)"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"GGUF", "a model (GGUF); --model opens it"),
    (b"SQLite format 3\x00", "an SQLite database"),
)


def read_attachment(path: Path, name: str = "", *, typed: str = "") -> Attachment:
    """The file at `path` under `name` (by default as `shown_name` gives it). Raises AttachmentError for what
    cannot be read, is too large, is empty, or is neither text nor PDF."""
    name = name or shown_name(path)
    shown = clean_line(name)
    data = _bytes_of(path, shown)
    if not data.strip():
        raise AttachmentError(f"{shown} is empty: there is nothing to attach.")
    if data.startswith(PDF_MARK):
        from chat_app.attachments.pdf import pdf_text

        text, encoding = pdf_text(data, shown), "PDF"
    else:
        text, encoding = _decoded(data, shown)
    return Attachment(name, str(path.absolute()), text, encoding, len(data), typed)


def shown_name(path: Path) -> str:
    """The path from the current folder where it lies below that, else the file's bare name."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return path.name


def _bytes_of(path: Path, shown: str) -> bytes:
    try:
        with open_ordinary(path) as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise AttachmentError(f"There is no file {shown}.") from None
    except OSError as error:
        raise AttachmentError(f"{shown} cannot be read: {error.strerror or error}.") from None
    if len(data) > MOST_BYTES:
        raise AttachmentError(f"{shown} is larger than {mib(MOST_BYTES)} MiB, the most that can be attached.")
    return data


def _decoded(data: bytes, shown: str) -> tuple[str, str]:
    """(text, encoding)."""
    kind = next((what for mark, what in _SIGNATURES if data.startswith(mark)), "")
    try:
        text, encoding = decode_text(data)
        fault = "there are control codes in it" if _CONTROLS.search(text) else ""
    except ValueError as error:
        text, encoding, fault = "", "", str(error)
    if fault:
        what = f"it is {kind}" if kind else fault
        raise AttachmentError(f"{shown} cannot be attached: {what}. Text and PDF files can be.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding
