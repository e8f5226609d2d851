"""Report folders: data, text, pictures with matplotlib, bars without it; unusable places are found first."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from llama_core.profiling.formatting import number
from llama_core.profiling.machine import describe_machine
from llama_core.profiling.profile import report as charts
from llama_core.profiling.profile import report as profile_report
from llama_core.profiling.profile.report import ReportFolderError, prepare_folder, terminal_bars
from llama_core.profiling.profile.sections import Bars, Section

BARS = Bars("b", "Times of <things>", "seconds", (("one & two", 0.5), ("three", 2.0), ("three", 0.00002)))


def write(folder: Path, notes: tuple[str, ...] = ()) -> list[Path]:
    profiles = {"kind": (BARS, {1: 2})}
    sections = [Section("S", "text\n", (BARS,))]
    return profile_report.write_report(folder, describe_machine(), profiles, sections, notes)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails from now on


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_there_are_bars_and_the_way_to_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImportError):
        charts.draw([BARS], tmp_path)
    files = write(tmp_path / "r", ("Interrupted.",))
    assert [file.name for file in files] == ["report.json", "report.md"]
    data = json.loads(files[0].read_text())
    assert data["profiles"]["kind"][1] == {"1": 2}
    text = files[1].read_text()
    assert "## S" in text
    assert terminal_bars(BARS).rstrip() in text
    assert "![" not in text
    for note in ("Interrupted.", "No pictures: matplotlib is not installed"):
        assert any(said.startswith(note) for said in data["notes"])
        assert f"- {note}" in text
    assert "pip install matplotlib" in text
    assert "pip install 'llama-chat[charts]'" in text


def test_bars_are_as_long_as_their_values() -> None:
    lines = terminal_bars(BARS).splitlines()
    assert lines[0] == "Times of <things> (seconds)"
    assert [line.count("#") for line in lines[1:]] == [10, 40, 0]
    assert [line.split()[-1] for line in lines[1:]] == ["0.5", "2", "0.00002"]
    assert [number(value) for value in (0.0, 12345.6, 1.23456)] == ["0", "12,346", "1.23"]


def test_with_matplotlib_the_report_shows_its_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = write(tmp_path / "r")
    assert [file.name for file in files] == ["report.json", "report.md", "b.svg"]
    text = files[1].read_text()
    assert "![Times of <things>](b.svg)" in text
    assert "No pictures" not in text
    assert "#####" not in text
    assert json.loads(files[0].read_text())["notes"] == []


def test_a_picture_says_what_it_shows_and_nothing_overlaps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (file,) = charts.draw([BARS], tmp_path)
    drawn = file.read_bytes()
    assert len(drawn) > 2_000
    picture = ElementTree.fromstring(drawn)
    assert picture.tag.endswith("}svg")
    texts = [element for element in picture.iter() if element.tag.endswith("}text")]
    said = [(element.text or "").strip() for element in texts]
    for label in ("Times of <things>", "seconds", "one & two", "three", "0.5", "0.00002"):
        assert label in said
    assert said.count("three") == 2  # equal labels stay two bars
    assert charts.draw([BARS], tmp_path)[0].read_bytes() == drawn
    for column in (("one & two", "three"), ("0.5", "2", "0.00002")):
        labels = [height(element) for element, text in zip(texts, said, strict=True) if text in column]
        if column[0] == "0.5":  # the numbers of the axis, which all stand at one height, are of the same kind
            labels = list(dict.fromkeys(labels[-3:]))
        assert len(labels) == 3
        assert all(below - above > 12 for above, below in itertools.pairwise(labels))


def height(text: Any) -> float:
    """Where an SVG text stands, from above."""
    if text.get("y") is not None:
        return float(text.get("y"))
    return float(text.get("transform").partition("translate(")[2].partition(")")[0].split()[-1])


def test_a_folder_is_made_and_tried(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "report.md").write_text("an earlier one")
    prepare_folder(tmp_path / "new")


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportFolderError, match=r"no folder .*/missing to make the report in; make it first"):
        prepare_folder(tmp_path / "missing" / "report")
    assert not (tmp_path / "missing").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ReportFolderError, match=r"file is a file; a report is a folder, so give it another name"
    ):
        prepare_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("existing", [True, False])
def test_a_read_only_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool) -> None:
    folder = tmp_path / "report"
    if existing:
        folder.mkdir()

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError(30, os.strerror(30))

    # Tests may run as root, whom no mode of a folder stops.
    monkeypatch.setattr(tempfile if existing else Path, "TemporaryFile" if existing else "mkdir", refuse)
    with pytest.raises(ReportFolderError, match=r"report \(Read-only file system\); give a folder"):
        prepare_folder(folder)
