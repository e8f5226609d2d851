"""ik_llama.cpp in the benchmark, by a program that answers in the form of its llama-bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_core.profiling.bench.ik import IkError, IkSubject, rate_in
from llama_core.profiling.bench.run import BenchResult, Row
from llama_core.profiling.bench.tasks import Task, decode, prefill
from llama_core.profiling.bench.text import ratios

# What it prints for one test, of which most fields say how it was built.
RECORD: dict[str, Any] = {
    "build_commit": "0115ace2",
    "cpu_info": "AMD EPYC",
    "model_type": "llama 1B Q4_K - Medium",
    "n_threads": 2,
    "flash_attn": True,
    "test_time": "2026-11-29T12:00:00Z",
    "avg_ns": 1_000_000_000,
    "stddev_ns": 0,
    "stddev_ts": 0.0,
}
# Does what the program does with its arguments: a record with the numbers of the test asked for.
PROGRAM = """#!{python}
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
Path(__file__).with_suffix(".calls").open("a").write(json.dumps(arguments) + "\\n")
value = lambda name, default: arguments[arguments.index(name) + 1] if name in arguments else default
prompt, generated = int(value("-p", 512)), int(value("-n", 128))
if "-gp" in arguments:
    prompt, generated = map(int, value("-gp", "").split(","))
if prompt == 13:
    sys.stderr.write("llama_load\\x1b[2J: error: 13 is unlucky\\n")
    raise SystemExit(1)
print("found 2 cores")
record = dict(json.loads({record!r}), n_prompt=prompt, n_gen=generated, avg_ts=prompt + generated / 1000)
print("[\\n  " + json.dumps(record) + "\\n]")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "llama-bench"
    path.write_text(PROGRAM.format(python=sys.executable, record=json.dumps(RECORD)))
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="runs a script by its first line")
def test_each_row_is_one_run_of_the_program(program: Path) -> None:
    subject = IkSubject(program, Path("m.gguf"), 3, None)
    rates = [subject.measure(task) for task in (prefill(512), decode(), decode(4096, n=32))]
    assert rates == [512, 0.128, 4096.032]
    calls = [json.loads(line) for line in program.with_suffix(".calls").read_text().splitlines()]
    assert [call[-6:] for call in calls][2] == ["-p", "0", "-n", "0", "-gp", "4096,32"]
    assert all(call[:4] == ["-m", "m.gguf", "-t", "3"] for call in calls)
    assert not subject.can(Task("copy", 5, 9, prompt_ids=(1, 2)))


@pytest.mark.skipif(sys.platform == "win32", reason="runs a script by its first line")
def test_a_run_that_fails_says_the_last_words_in_plain_characters(program: Path) -> None:
    with pytest.raises(IkError, match=r"failed at pp13: 'llama_load\\x1b\[2J: error: 13 is unlucky'"):
        IkSubject(program, Path("m.gguf"), 1, None).measure(prefill(13))


def test_no_such_program_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(IkError, match="is no program; build"):
        IkSubject(tmp_path / "llama-bench", Path("m.gguf"), 1, None)


@pytest.mark.parametrize(
    "answer",
    ["", "no list", "[\n]", "[\n {}, {}\n]", "[\n {\"n_prompt\": 512, \"n_gen\": 0}\n]", "[\n 5\n]"],
)  # fmt: skip
def test_an_answer_without_a_rate(answer: str) -> None:
    with pytest.raises(IkError, match="is no list of one record with a rate"):
        rate_in(answer, prefill(512))


@pytest.mark.parametrize(
    "changed", [{"n_prompt": 256}, {"n_gen": 1}, {"avg_ts": 0.0}, {"avg_ts": float("nan")}]
)
def test_an_answer_to_another_question(changed: dict[str, Any]) -> None:
    record = RECORD | {"n_prompt": 512, "n_gen": 0, "avg_ts": 100.0}
    assert rate_in("[\n" + json.dumps(record) + "\n]", prefill(512)) == 100.0
    with pytest.raises(IkError, match="is of "):
        rate_in("[\n" + json.dumps(record | changed) + "\n]", prefill(512))


def test_it_is_a_peer_in_the_ratios() -> None:
    rows = [
        Row("pp512", "jit avx2", [30.0]),
        Row("pp512", "ik_llama.cpp", [20.0]),
        Row("pp512", "numpy", [5.0]),
    ]
    found = {(one["of"], one["to"]): one["ratio"] for one in ratios(BenchResult(rows, {1: [1.0]}, "x", {}))}
    assert found == {
        ("jit avx2", "ik_llama.cpp"): 1.5,
        ("jit avx2", "numpy"): 6.0,
        ("numpy", "ik_llama.cpp"): 0.25,
    }
