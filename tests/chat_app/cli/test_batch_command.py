"""`llama-chat batch`: every line answered once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands.batch_output import BatchOutput, OutputError
from chat_app.commands.batch_progress import BatchState, progress_text

RunCli = Callable[..., Any]
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    given = {"model": "any", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    payload = (
        {"messages": [{"role": "user", "content": f"Say {custom_id}"}]} if url == CHAT else {"prompt": "Once"}
    )
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": payload | given | body}


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text().splitlines()]


def by_id(path: Path) -> dict[str, dict[str, Any]]:
    records = read(path)
    found = {record["custom_id"]: record for record in records}
    assert len(found) == len(records)
    return found


def text_of(record: dict[str, Any]) -> str:
    choice = record["response"]["body"]["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.fixture
def batch(main: RunCli, tiny_model: Path) -> RunCli:
    def run(source: Path, out: Path, *options: str) -> Any:
        return main("batch", str(source), str(out), "-m", str(tiny_model), "--backend", "numpy", *options)

    return run


def test_each_line_is_answered_in_the_format_of_the_service(
    batch: RunCli, main: RunCli, tiny_model: Path, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "in.jsonl",
        [
            line("a"),
            line("b", COMPLETION),
            line("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "Say a"}]}]),
            line("ids", COMPLETION, prompt=[40, 41, 42]),
            line("limit", max_completion_tokens=3, max_tokens=None),
        ],
    )
    ran = batch(source, tmp_path / "out.jsonl")
    assert ran.code == 0, ran.err
    found = by_id(tmp_path / "out.jsonl")
    assert set(found) == {"a", "b", "parts", "ids", "limit"}
    for record in found.values():
        assert record["error"] is None
        assert record["response"]["status_code"] == 200
        body = record["response"]["body"]
        assert body["model"] == tiny_model.name
        assert body["choices"][0]["finish_reason"] == "length"
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert found["a"]["response"]["body"]["object"] == "chat.completion"
    assert found["b"]["response"]["body"]["object"] == "text_completion"
    assert found["limit"]["response"]["body"]["usage"]["completion_tokens"] == 3
    assert found["ids"]["response"]["body"]["usage"]["prompt_tokens"] == 3
    alone = json.loads(
        main(
            "-p", "Say a", "-m", str(tiny_model), "--backend", "numpy", "--output", "json", "--no-save",
            "-o", "temperature", "0", "-o", "num_predict", "6",
        ).out
    )  # fmt: skip
    assert alone["ids"]
    assert text_of(found["a"]).startswith(alone["text"])  # alone, an end token may end it earlier
    assert text_of(found["parts"]) == text_of(found["a"])


def test_a_stop_string_ends_a_reply_and_is_no_part_of_it(batch: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line("whole", max_tokens=12)])
    batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    whole = text_of(by_id(tmp_path / "out.jsonl")["whole"])
    stop = next(character for character in whole[2:] if character not in whole[:2] and character != "\ufffd")
    write(tmp_path / "in2.jsonl", [line("whole", max_tokens=12, stop=stop)])
    assert batch(tmp_path / "in2.jsonl", tmp_path / "out2.jsonl").code == 0
    record = by_id(tmp_path / "out2.jsonl")["whole"]
    assert text_of(record) == whole[: whole.index(stop)]
    assert record["response"]["body"]["choices"][0]["finish_reason"] == "stop"


BAD_LINES = [
    "not json",
    "[1, 2]",
    '"text"',
    "{}",
    "[" * 100_000,
    json.dumps(line("m") | {"method": "GET"}),
    json.dumps(line("u") | {"url": "/v1/embeddings"}),
    json.dumps(line("b") | {"body": None}),
    json.dumps(line("t", temperature="hot")),
    json.dumps(line("t2", temperature=-1)),
    json.dumps(line("t3", temperature=True)),
    json.dumps(line("mt", max_tokens=1.5)),
    json.dumps(line("s", stop=[""])),
    json.dumps(line("seed", seed=-1)),
    json.dumps(line("n", n=2)),
    json.dumps(line("tools", tools=[{"type": "function"}])),
    json.dumps(line("x", surprise=1)),
    json.dumps(line("msg", messages=[])),
    json.dumps(line("role", messages=[{"role": "tool", "content": "x"}])),
    json.dumps(line("img", messages=[{"role": "user", "content": [{"type": "image_url"}]}])),
    json.dumps(line("p", COMPLETION, prompt=["a", "b"])),
    json.dumps(line("good0")),
]


def test_bad_lines_are_reported_and_stop_nothing(batch: RunCli, tmp_path: Path) -> None:
    lines = [line("good0"), *BAD_LINES, "", line("good1", n=1, logit_bias={}, frequency_penalty=0.0)]
    source = write(tmp_path / "in.jsonl", lines)
    out = tmp_path / "out.jsonl"
    ran = batch(source, out)
    assert ran.code == 1
    assert f"{len(BAD_LINES)} of {len(BAD_LINES) + 2} lines failed" in ran.err
    records = read(out)
    answered = [record["custom_id"] for record in records if record["error"] is None]
    assert sorted(answered) == ["good0", "good1"]
    errors = {record["error"]["line"]: record["error"] for record in records if record["error"]}
    assert sorted(errors) == list(range(2, 2 + len(BAD_LINES)))
    for number, error in errors.items():
        assert error["message"].startswith(f"line {number}: ")
    before = out.read_bytes()
    again = batch(source, out)
    assert again.code == 1
    assert "nothing to do" in again.err
    assert out.read_bytes() == before


def test_a_corrected_line_runs_on_the_next_run(batch: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    batch(write(tmp_path / "in.jsonl", [line("a"), line("b", n=3)]), out)
    batch(write(tmp_path / "in.jsonl", [line("a"), line("b")]), out)
    answered = Counter(record["custom_id"] for record in read(out) if record["error"] is None)
    assert answered == {"a": 1, "b": 1}


def test_what_does_not_fit_fails_alone(batch: RunCli, tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        [
            line("long", messages=[{"role": "user", "content": "x" * 2000}]),
            line("fine"),
            line("open", max_tokens=None),
        ],
    )
    ran = batch(source, tmp_path / "out.jsonl", "--ctx-size", "512", "--kv-budget", "1")
    found = by_id(tmp_path / "out.jsonl")
    assert ran.code == 1
    assert found["long"]["error"]["code"] == "context_length_exceeded"
    assert found["fine"]["error"] is None
    assert found["open"]["error"] is None


def test_other_files_are_left_alone(batch: RunCli, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line("a")])
    for content in ("my notes\n", "my notes without an end", '{"id": "x", "custom_id": "a"}\n'):
        other = tmp_path / "notes.txt"
        other.write_text(content)
        assert batch(source, other).code == 2
        assert other.read_text() == content
    assert batch(source, source).code == 2
    assert batch(tmp_path / "missing.jsonl", tmp_path / "out.jsonl").code == 2


def test_only_one_process_writes_a_file(tmp_path: Path) -> None:
    first = BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    with pytest.raises(OutputError, match="another batch"):
        BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    first.close()
    BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks").close()


def test_a_tail_torn_at_any_byte_is_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    record = {"id": "batch_req_1", "custom_id": "a", "response": {}, "error": None}
    whole = (json.dumps(record) + "\n").encode()
    second = (json.dumps(record | {"custom_id": "b"}) + "\n").encode()
    for cut in range(1, len(second)):
        for tail in (second[:cut], b"\0" * cut):
            out.write_bytes(whole + tail)
            output = BatchOutput(out, tmp_path / "locks")
            assert output.done == {"a"}
            assert output.repaired_bytes == cut
            output.append(record | {"custom_id": "b"})
            output.close()
            assert out.read_bytes() == whole + second


def test_killed_again_and_again_nothing_is_lost_or_repeated(
    tiny_model: Path, tmp_path: Path, llama_chat_home: Path
) -> None:
    """SIGKILL at moments that nobody chose, until the batch is done."""
    n = 24
    lines = [line(f"r{i}", max_tokens=20 + i % 7, temperature=0.8, seed=i) for i in range(n)]
    source = write(tmp_path / "in.jsonl", lines)
    out, reference = tmp_path / "out.jsonl", tmp_path / "reference.jsonl"
    command = [
        sys.executable,
        "-m",
        "chat_app.cli",
        "batch",
        "--quiet",
        "--backend",
        "numpy",
        "-m",
        str(tiny_model),
    ]
    command += ["--max-batch", "3"]
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    kills = 0
    for _ in range(60):
        child = subprocess.Popen([*command, str(source), str(out)], env=dict(os.environ))
        # Wait for some lines more than there were, then strike.
        target = (len(out.read_bytes().splitlines()) if out.exists() else 0) + chance.randint(1, 6)
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.read_bytes().count(b"\n") >= target:
                time.sleep(chance.random() * 0.01)
                child.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        if child.wait(timeout=60) == 0:
            break
    assert kills >= 3, f"seed {seed}"
    found = by_id(out)
    assert set(found) == {f"r{i}" for i in range(n)}, f"seed {seed}"
    assert subprocess.run([*command, str(source), str(reference)], check=False, timeout=120).returncode == 0
    uninterrupted = by_id(reference)
    assert {key: text_of(record) for key, record in found.items()} == {
        key: text_of(record) for key, record in uninterrupted.items()
    }, f"seed {seed}"


def test_interrupted_politely_it_says_how_to_go_on(tiny_model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line(f"r{i}", max_tokens=400) for i in range(200)])
    command = [sys.executable, "-m", "chat_app.cli", "batch", "--backend", "numpy", "-m", str(tiny_model)]
    out = tmp_path / "out.jsonl"
    child = subprocess.Popen([*command, "--max-batch", "2", str(source), str(out)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"run the same command again" in err
    done = by_id(out)
    assert 0 < len(done) < 200


def test_the_progress_line_names_rate_and_time_left() -> None:
    state = BatchState(total=100, before=20, done=30, failed=2, tokens=1200, running=16, elapsed_s=60.0)
    text = progress_text(state)
    assert "50 of 100" in text
    assert "2 failed" in text
    assert "20 tok/s" in text
    assert "16 at once" in text
    assert "ETA 1:40" in text
    assert text.startswith("[############............]")
    fresh = BatchState(total=10, before=0, done=0, failed=0, tokens=0, running=0, elapsed_s=0.0)
    assert "ETA unknown" in progress_text(fresh)


def test_a_place_that_cannot_hold_results_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    for place, words in ((tmp_path, "ordinary file"), (tmp_path / "no" / "out.jsonl", "no folder")):
        with pytest.raises(OutputError, match=words):
            BatchOutput(place, tmp_path / "locks")


def test_half_a_surrogate_pair_leaves_the_results_readable(tmp_path: Path) -> None:
    output = BatchOutput(tmp_path / "out.jsonl", tmp_path / "locks")
    output.append({"id": "batch_req_1", "custom_id": "\ud800cid", "error": None})
    output.close()
    (line,) = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["custom_id"] == "\ud800cid"
