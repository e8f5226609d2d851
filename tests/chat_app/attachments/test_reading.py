"""Which files become text, and how the rest is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chat_app.attachments import reading
from chat_app.attachments.attachment import (
    Attachment,
    AttachmentError,
    attachments_of,
    details_of,
    prompt_text,
)
from chat_app.attachments.reading import read_attachment
from tests.chat_app.text.test_decode import CODECS

TEXT = "Größe – naïve\nzwei\n"


@pytest.mark.parametrize(("codec", "encoding"), CODECS)
def test_any_encoding_that_can_be_told(tmp_path: Path, codec: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode(codec))
    found = read_attachment(path)
    assert (found.text, found.encoding) == (TEXT, encoding)
    assert found.file_bytes == path.stat().st_size
    assert (found.name, found.path) == ("a.txt", str(path))


def test_a_name_is_told_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    assert read_attachment(Path("src/a.py")).name == "src/a.py"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is a PNG picture"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\xff", "it is a ZIP archive"),
        (b"GGUF\x03\0\0\0\0\0", "--model opens it"),
        (b"abc\0def", "control codes in it"),
        (b"\x00\x01\x02\xff\xfe\x90", "control codes in it"),
        (b"\xff\xfeodd", "begins as UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    with pytest.raises(AttachmentError, match=r"file\.bin") as caught:
        read_attachment(path)
    assert why in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 1 << 10)
    path = tmp_path / "big.txt"
    path.write_bytes(b"a" * (1 << 10))
    assert len(read_attachment(path).text) == 1 << 10
    path.write_bytes(b"a" * ((1 << 10) + 1))
    with pytest.raises(AttachmentError, match="larger than"):
        read_attachment(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(AttachmentError, match="a pipe or a device"):
            read_attachment(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reading, "open_ordinary", refuse)
    with pytest.raises(AttachmentError, match=r"a\.txt cannot be read: Permission denied\."):
        read_attachment(tmp_path / "a.txt")


def test_control_codes_of_a_name_reach_no_message(tmp_path: Path) -> None:
    with pytest.raises(AttachmentError) as caught:
        read_attachment(tmp_path / "a\x1b[31m.txt")
    assert "\x1b" not in str(caught.value)


def test_the_prompt_names_each_file_before_the_question() -> None:
    files = [Attachment('a"\n.txt', "/a", "one\n\n"), Attachment("b", "/b", "two", cut=True)]
    assert prompt_text("why?", files) == (
        '<file name="a\' .txt">\none\n</file>\n\n<file name="b" part="beginning">\ntwo\n</file>\n\nwhy?'
    )
    assert prompt_text("why?", ()) == "why?"
    short = Attachment("c", "/c", "long " * 99, cut=True, summary="short")
    assert prompt_text("", [short]) == '<file name="c" part="summary">\nshort\n</file>'


def test_records_come_back_as_they_were_and_damaged_ones_are_left_out() -> None:
    files = (Attachment("a", "/a", "one", "PDF", 7, "a", True, "short"), Attachment("b", "/b", "two"))
    x = details_of(files)
    assert attachments_of(x) == files
    assert details_of(()) == {}
    for damage in (None, 3, {"name": "a"}, {"name": 1, "path": "/a", "text": "x"}, [1]):
        assert attachments_of({"attachments": [damage, *x["attachments"]]}) == files
    assert attachments_of({"attachments": "a"}) == ()
