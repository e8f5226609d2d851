"""`llama-chat lab run` stopped by Ctrl+C or a signal, or left by its reader: no row that was done is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llama_core.profiling.lab import records as results

# A run of two experiments, the second of which waits for a line on stdin; `TIDY` runs when it is let go.
SCRIPT = """
import sys, time
from chat_app import cli
from chat_app.commands import lab
from llama_core.profiling.lab.experiment import Case, Experiment, Timed, same

def case(name):
    return Case(name, lambda: Timed(1, 2.0), lambda: Timed(1, 1.0), check=same)

def quick(context):
    yield case("first")

def waiting(context):
    try:
        yield case("second")
        yield case("third")
        print("WAITING", flush=True)
        sys.stdin.readline()
        yield case("fourth")
    finally:
        TIDY

lab.registry = lambda: [
    Experiment(n, cases.__name__, cases.__name__, "x", "y", cases) for n, cases in ((1, quick), (2, waiting))
]
sys.exit(cli.main(["lab", "run", "all", "--output-file", sys.argv[1]]))
"""


@pytest.fixture
def kept(llama_chat_home: Path) -> Path:
    return llama_chat_home / "data" / "lab-results.jsonl"


def start(tidy: str, output_file: Path) -> subprocess.Popen[str]:
    """The run of SCRIPT, returned when it waits within the second experiment."""
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("TIDY", tidy), str(output_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while (line := child.stdout.readline()) and "WAITING" not in line:
        pass
    assert line, "it ended before it waited"
    return child


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_end_before_the_end_keeps_what_was_measured_and_says_so(
    name: str, tmp_path: Path, kept: Path
) -> None:
    own = tmp_path / "own.jsonl"
    child = start("pass", own)
    number = getattr(signal, name)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    stopped = f"stopped by {'Ctrl+C' if name == 'SIGINT' else name}"
    assert child.returncode == 128 + number
    assert "Traceback" not in said
    assert f"{stopped}; saved in {kept}: 1 experiment (quick) and 2 rows of waiting" in said
    whole, cut = results.read_records(kept)[0]
    assert (whole.name, whole.incomplete) == ("quick", "")
    assert (cut.name, cut.incomplete) == ("waiting", stopped)
    assert [row.name for row in cut.rows] == ["second", "third"]
    assert own.read_text() == kept.read_text()


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing_either(tmp_path: Path, kept: Path) -> None:
    child = start('print("TIDYING", flush=True); time.sleep(600)', tmp_path / "own.jsonl")
    assert child.stdout is not None
    child.send_signal(signal.SIGINT)
    assert "TIDYING" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)  # far less than the tidying would take
    assert child.returncode == 130
    assert "2 rows of waiting" in said
    assert [len(record.rows) for record in results.read_records(kept)[0]] == [1, 2]


def test_a_second_ctrl_c_ends_a_program_that_waits_for_its_threads(tmp_path: Path, kept: Path) -> None:
    tidy = "import threading; threading.Thread(target=time.sleep, args=(600,)).start()"
    child = start(tidy, tmp_path / "own.jsonl")
    assert child.stderr is not None
    child.send_signal(signal.SIGINT)
    while "2 rows of waiting" not in (line := child.stderr.readline()):
        assert line, "nothing was said"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT  # a shell shows 130
    assert said == ""
    assert [len(record.rows) for record in results.read_records(kept)[0]] == [1, 2]


def test_a_reader_that_leaves_early_loses_no_rows(tmp_path: Path, kept: Path) -> None:
    child = start("pass", tmp_path / "own.jsonl")
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.close()
    child.stdin.write("\n")  # its next row finds nobody
    child.stdin.close()
    assert child.stderr is not None
    said = child.stderr.read()
    assert child.wait(60) == 0
    assert "Traceback" not in said
    assert [[row.name for row in one.rows] for one in results.read_records(kept)[0]] == [
        ["first"],
        ["second", "third", "fourth"],
    ]
