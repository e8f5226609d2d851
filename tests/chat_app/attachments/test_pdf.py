"""PDF files, written here byte by byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chat_app.attachments.attachment import AttachmentError
from chat_app.attachments.reading import read_attachment

pypdf = pytest.importorskip("pypdf")


def pdf_bytes(*pages: str) -> bytes:
    """A PDF whose pages show one line of text each (ISO 32000-1, 7.5); an empty one shows nothing."""
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    inherited = "/MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} {inherited} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for at, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * at} 0 R >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    n = len(objects) + 1
    table = f"xref\n0 {n}\n0000000000 65535 f \n{rows}trailer\n<< /Size {n} /Root 1 0 R >>\n"
    return data + f"{table}startxref\n{len(data)}\n%%EOF\n".encode()


def test_the_text_of_every_page(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes("First page", "", "Third page"))
    found = read_attachment(path)
    assert (found.text, found.encoding) == ("First page\n\nThird page", "PDF")


def test_pictures_alone_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(pdf_bytes("", ""))
    with pytest.raises(AttachmentError, match=r"scan\.pdf holds no text"):
        read_attachment(path)


@pytest.mark.parametrize("keep", [5, 9, 60, 300])
def test_a_damaged_one_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.pdf"
    path.write_bytes(pdf_bytes("Text")[:keep])
    with pytest.raises(AttachmentError, match=r"cut\.pdf (cannot be read as PDF|holds no text)"):
        read_attachment(path)


def test_one_behind_a_password_is_told(tmp_path: Path) -> None:
    plain, locked = tmp_path / "a.pdf", tmp_path / "locked.pdf"
    plain.write_bytes(pdf_bytes("Secret"))
    writer = pypdf.PdfWriter(clone_from=plain)
    writer.encrypt("word", algorithm="RC4-128")
    writer.write(locked)
    with pytest.raises(AttachmentError, match="protected by a password"):
        read_attachment(locked)


def test_without_pypdf_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes("Text"))
    with pytest.raises(AttachmentError, match=r"llama-chat\[pdf\]"):
        read_attachment(path)
