"""Rows that stay in their file: the same bytes as in memory, however they are cut; and files cut short."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from llama_core.errors import ModelFormatError
from llama_core.file_rows import FileRows, OpenFile, read_rows
from llama_core.loaders.cursor import open_file

BYTES = np.random.default_rng(1).integers(0, 256, 1000).astype(np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(BYTES.tobytes())
    return path


@pytest.fixture
def rows(path: Path) -> FileRows:
    """(16, 60) from byte 40 on."""
    return open_file(path).rows(40, 16, 60)


WHOLE = BYTES[40:].reshape(16, 60)
CUTS = {
    "all": np.s_[:],
    "rows": np.s_[3:7],
    "no rows": np.s_[5:5],
    "to the end": np.s_[12:],
    "beyond the end": np.s_[12:99],
    "columns": np.s_[:, 8:24],
    "both": np.s_[2:9, 50:],
    "numbers near each other": np.array([5, 3, 4, 3]),
    "numbers far apart": np.array([15, 0]),
    "no numbers": np.array([], dtype=np.int64),
}


@pytest.mark.parametrize("cut", CUTS)
def test_they_are_cut_like_an_array(rows: FileRows, cut: str) -> None:
    taken = rows[CUTS[cut]]
    wanted = WHOLE[CUTS[cut]]
    assert (taken.shape, taken.size, len(taken)) == (wanted.shape, wanted.size, len(wanted))
    np.testing.assert_array_equal(read_rows(taken), wanted, strict=True)


def test_cuts_of_cuts_and_rows_of_another_length(rows: FileRows) -> None:
    part = rows[2:12]
    assert isinstance(part, FileRows)
    np.testing.assert_array_equal(read_rows(part[3:5]), WHOLE[5:7])
    np.testing.assert_array_equal(read_rows(part[np.array([9, 0])]), WHOLE[[11, 2]])
    np.testing.assert_array_equal(read_rows(part.reshape(-1, 30)), WHOLE[2:12].reshape(-1, 30))
    for wrong in (part.reshape, rows[:, 1:31].reshape):  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="cannot be cut"):
            wrong(-1, 31)
    with pytest.raises(IndexError):
        rows[np.array([16])]
    with pytest.raises(IndexError, match="without a step"):
        rows[::2]


def test_nothing_is_read_before_it_is_asked_for(rows: FileRows, path: Path) -> None:
    path.write_bytes(bytes(1000))  # the same file, of other bytes
    assert not read_rows(rows[:2]).any()


def test_a_file_that_was_cut_short_says_so(rows: FileRows, path: Path) -> None:
    os.truncate(path, 500)
    np.testing.assert_array_equal(read_rows(rows[:7]), WHOLE[:7])
    for taken in (lambda: read_rows(rows[5:9]), lambda: rows[np.array([15, 0])], rows.read):
        with pytest.raises(ModelFormatError, match=r"file: byte \d+: the file ends here; it had 1,000 bytes"):
            taken()
    path.write_bytes(BYTES.tobytes())
    np.testing.assert_array_equal(rows.read(), WHOLE)


def test_a_file_that_is_deleted_or_replaced_stays_readable(rows: FileRows, path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"short")
    os.replace(other, path)
    np.testing.assert_array_equal(rows.read(), WHOLE)


def test_reads_that_come_back_short_go_on(rows: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal or a file system over a network may have it."""
    plain = OpenFile._read
    monkeypatch.setattr(OpenFile, "_read", lambda self, memory, start: plain(self, memory[:7], start))
    np.testing.assert_array_equal(rows.read(), WHOLE)


def test_systems_without_positioned_reads(rows: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    np.testing.assert_array_equal(rows[np.array([15, 0])], WHOLE[[15, 0]])


def test_the_file_is_closed_with_the_last_rows(path: Path) -> None:
    file = open_file(path)
    descriptor, rows = file.descriptor, file.rows(0, 1, 10)
    del file
    os.fstat(descriptor)
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
