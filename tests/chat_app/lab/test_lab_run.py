"""`llama-chat lab run` and `report` on made-up experiments: what is kept, shown and said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands import lab as commands_lab
from chat_app.lab.text import row_text, run_table
from llama_core.profiling.lab import report
from llama_core.profiling.lab.experiment import (
    Case,
    Experiment,
    LabContext,
    Match,
    NotMeasured,
    Row,
    Timed,
    same,
)
from llama_core.profiling.lab.records import Record, now_utc, read_records
from llama_core.profiling.statistics import Interval, Spread

RunCli = Callable[..., Any]
Cases = Callable[[LabContext], Iterator[Case | NotMeasured]]


def made(number: int, name: str, cases: Cases) -> Experiment:
    return Experiment(number, name, f"Number {name}", "quick beats slow", "it is slower", cases)


def case(name: str, before_s: float = 2.0, after_s: float = 1.0) -> Case:
    return Case(name, lambda: Timed([1], before_s), lambda: Timed([1], after_s), check=same)


def one(context: LabContext) -> Iterator[Case | NotMeasured]:
    yield case("twice as quick")
    yield NotMeasured("gpu", "no device")


def two(context: LabContext) -> Iterator[Case | NotMeasured]:
    yield case("a half", 1.0, 2.0)


def failing(context: LabContext) -> Iterator[Case | NotMeasured]:
    yield case("before the fault")
    raise ZeroDivisionError("nothing to divide by")


@pytest.fixture
def lab(main: RunCli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `lab ...` where these are all experiments: lab([made(...)], "run", "all")."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(experiments: list[Experiment], *arguments: str) -> Any:
        monkeypatch.setattr(commands_lab, "registry", lambda: experiments)
        return main("lab", *arguments)

    return run


@pytest.fixture
def kept(llama_chat_home: Path) -> Path:
    return llama_chat_home / "data" / "lab-results.jsonl"


def test_a_run_ends_with_one_table_the_time_and_the_way_to_the_report(lab: RunCli, kept: Path) -> None:
    ran = lab([made(1, "one", one), made(2, "two", two)], "run", "all")
    assert ran.code == 0, ran.err
    table = ran.out[ran.out.index("  row ") :].splitlines()
    cells = [" ".join(line.split()) for line in table]
    assert cells[0] == "row ratio (95 % interval) verdict outputs match"
    assert cells[1:6] == [
        "1. Number one",
        "twice as quick 2x (2 to 2) confirmed identical (1 items)",
        "gpu not measured no device",
        "2. Number two",
        "a half 0.5x (0.5 to 0.5) refuted identical (1 items)",
    ]
    assert "2 experiments, 3 rows in " in ran.out
    assert f"results: {kept}" in ran.err
    assert "`llama-chat lab report`" in ran.err
    records, _ = read_records(kept)
    assert len({record.run for record in records}) == 1
    assert records[0].run


def test_results_as_json_are_all_that_stands_on_stdout(
    lab: RunCli, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    experiments = [made(1, "one", one), made(2, "failing", failing)]
    ran = lab(experiments, "run", "all", "--output", "json")
    assert ran.code == 1
    assert set(tmp_path.iterdir()) <= before | {kept.parents[1]}  # nothing is named "json"
    found = json.loads(ran.out)
    assert found == [json.loads(line) for line in kept.read_text().splitlines()]
    assert [row["name"] for row in found[0]["rows"]] == ["twice as quick", "gpu"]
    assert found[1]["incomplete"].startswith("broke off")
    assert "twice as quick: 2 s -> 1 s" in ran.err
    assert json.loads(lab(experiments, "report", "--output", "json").out) == found
    listed = json.loads(lab(experiments, "list", "--output", "json").out)
    assert [(one["number"], one["name"], one["refuted_if"]) for one in listed] == [
        (1, "one", "it is slower"),
        (2, "failing", "it is slower"),
    ]
    refused = lab(experiments, "report", "--output", "json", "--readme", "README.md")
    assert refused.code == 2
    assert "--readme puts Markdown into a file" in refused.err


def row(name: str, match: Match) -> Row:
    spread = Spread(1.0, 0.9, 1.1, 6)
    return Row(name, "confirmed", "at least 0.5x", Interval(1136.0, 990.0, 1303.0), spread, spread, match)


@pytest.mark.parametrize("width", [60, 80, 100, 140, 10_000])
def test_the_table_fits_and_every_row_has_ratio_interval_and_match(width: int) -> None:
    close = Match(True, "8-bit activations: cosine 0.99992, 10 of the top 10 in common")
    rows = (
        row("the whole decode step: compiled model instead of NumPy, at 2,048 tokens", close),
        row("short", Match(False, "apart by 5e-02 of the largest value")),
        Row("product 1024 x 1024 on a GPU instead of the BLAS", "not measured", "", note="no GPU " * 12),
    )
    title = "Scaling with the sequence, 16 to 2,048 tokens, and more words than fit into sixty columns"
    record = Record(1, "a", title, "", "", now_utc(), 1.0, {}, rows, ())
    text = run_table([record], width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert words.count("1,136x (990 to 1,303)") == 2
    assert "outputs match" in words
    assert "outputs DIFFER: apart" in words
    assert "not measured" in words
    if width == 10_000:  # a line each, so that other programs can read it
        assert len(text.splitlines()) == 2 + len(rows)
        assert close.text in text
    for shown in rows:
        lines = row_text(shown, width).splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) == 1 or width < 200


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_width_is_taken_from_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    command = [sys.executable, "-m", "chat_app", "lab", "list"]
    # Python's own view of the environment: pytest loads readline, which puts COLUMNS into the C library's.
    child = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=dict(os.environ))
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(leader)
    assert child.wait(60) == 0
    lines = shown.decode().splitlines()
    assert "hypothesis" in shown.decode()
    assert 60 < max(map(len, lines)) <= 70


def test_an_experiment_that_breaks_off_keeps_its_rows_and_stops_no_other(lab: RunCli, kept: Path) -> None:
    ran = lab([made(1, "failing", failing), made(2, "two", two)], "run", "all")
    assert ran.code == 1
    assert "failing broke off: ZeroDivisionError: nothing to divide by" in ran.err
    first, second = read_records(kept)[0]
    assert [row.name for row in first.rows] == ["before the fault"]
    assert first.incomplete == "broke off: ZeroDivisionError: nothing to divide by"
    assert second.incomplete == ""
    assert "Incomplete experiments: 1 failing (broke off: ZeroDivisionError" in lab([], "report").out


def test_ctrl_c_before_the_first_row_saves_nothing_and_says_so(
    lab: RunCli, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(context: LabContext) -> Iterator[Case | NotMeasured]:
        raise KeyboardInterrupt
        yield

    before = signal.getsignal(signal.SIGINT)
    try:
        ran = lab([made(1, "stopped", stopped)], "run", "all")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ran.code == 130
    assert "stopped by Ctrl+C before the first row was done: nothing is saved" in ran.err
    assert not kept.exists()


def test_a_place_that_takes_no_results_is_found_before_measuring(
    lab: RunCli, tmp_path: Path, kept: Path
) -> None:
    def measured(context: LabContext) -> Iterator[Case | NotMeasured]:
        pytest.fail("this is too late")
        yield

    file = tmp_path / "file"
    file.write_text("here")
    places = {
        tmp_path / "missing" / "x": "there is no folder",
        tmp_path: "is no ordinary file",
        file / "x": "there is no folder",
        Path("/dev/null"): "is no ordinary file",
        tmp_path / ("x" * 300): "cannot be written",
        kept: "all results are added there anyway",
    }
    if sys.platform == "linux":
        places[Path("/proc/results")] = "cannot be written"
    for place, reason in places.items():
        ran = lab([made(1, "measured", measured)], "run", "all", "--output-file", str(place))
        assert ran.code == 2, place
        assert reason in ran.err
        assert "Number measured" not in ran.out
    assert file.read_text() == "here"
    assert not kept.exists()


def test_a_data_folder_that_takes_no_results_is_found_before_measuring(lab: RunCli, kept: Path) -> None:
    kept.mkdir(parents=True)
    ran = lab([made(1, "one", one)], "run", "all")
    assert ran.code == 2
    assert f"{kept} is no ordinary file" in ran.err
    assert "Number one" not in ran.out


def test_an_unknown_name_beside_all_is_refused(lab: RunCli) -> None:
    ran = lab([made(1, "one", one), made(2, "two", two)], "run", "all", "ome")
    assert ran.code == 2
    assert 'There is no experiment "ome"; did you mean one? There are one, two, and all.' in ran.err
    assert ran.out == ""


def test_trying_a_place_leaves_no_trace(lab: RunCli, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("of an earlier run\n")
    ran = lab([made(1, "one", one)], "run", "unknown", "--output-file", str(tmp_path / "new"))
    assert ran.code == 2

    def nothing(context: LabContext) -> Iterator[Case | NotMeasured]:
        yield from ()

    for name in ("new", "old"):
        assert lab([made(1, "n", nothing)], "run", "all", "--output-file", str(tmp_path / name)).code == 0
    assert not (tmp_path / "new").exists()
    assert old.read_text() == "of an earlier run\n"


def test_a_damaged_results_file_is_reported_with_a_sentence_a_line(lab: RunCli, kept: Path) -> None:
    lab([made(1, "one", one)], "run", "all")
    good = kept.read_text()
    evil = good.replace("twice as quick", "twice\\u001b]0;evil\\u0007 as quick").replace('"one"', '"evil"')
    kept.write_text("hello\n" + good + '{"name": "x", "rows": 3}\n' + evil + good[:100])
    ran = lab([], "report", "--full")
    assert ran.code == 0
    assert ran.err.splitlines() == [
        f"line 1 of {kept} is passed over: it is no JSON",
        f"line 3 of {kept} is passed over: number is missing",
        f"line 5 of {kept} is passed over: it is cut short, as by a crash",
    ]
    assert "| twice as quick |" in ran.out
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    # The next run's record does not become part of the torn line.
    assert lab([made(2, "two", two)], "run", "all").code == 0
    assert [record.name for record in read_records(kept)[0]] == ["one", "evil", "two"]


def test_a_foreign_file_is_refused_without_a_flood(lab: RunCli, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("{}\n" * 1000)
    ran = lab([], "report", str(foreign))
    assert ran.code == 2
    assert len(ran.err.splitlines()) == commands_lab.NAMED_LINES + 2
    assert f"995 more lines of {foreign} are passed over" in ran.err
    assert f"{foreign} holds no results" in ran.err


def test_a_readme_that_cannot_take_the_findings_stays_as_it_is(lab: RunCli, tmp_path: Path) -> None:
    lab([made(1, "one", one)], "run", "all")
    for content, reason in ((b"no markers\r\n", "markers"), (b"\xff\xfe", "UTF-8")):
        readme = tmp_path / "README.md"
        readme.write_bytes(content)
        ran = lab([], "report", "--readme", str(readme))
        assert ran.code == 2
        assert reason in ran.err
        assert readme.read_bytes() == content
    assert lab([], "report", "--readme", str(tmp_path / "none.md")).code == 1


def test_only_what_stands_between_the_markers_is_changed(lab: RunCli, tmp_path: Path) -> None:
    lab([made(1, "one", one)], "run", "all")
    readme = tmp_path / "README.md"
    readme.write_bytes(f"# x\r\n{report.BEGIN}\nold\n{report.END}\r\nend".encode())
    assert lab([], "report", "--readme", str(readme)).code == 0
    text = readme.read_bytes()
    assert text.startswith(f"# x\r\n{report.BEGIN}\nEach row is ".encode())
    assert text.endswith(f"\n{report.END}\r\nend".encode())
    assert b"old" not in text
