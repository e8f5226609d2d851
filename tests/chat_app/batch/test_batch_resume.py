"""`llama-chat batch` run again: what is done stays done, and nothing else passes for it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch.identity import model_identity
from chat_app.models.catalogue import CATALOGUE, DEFAULT_MODEL
from llama_core.errors import TemplateError
from tests.support.batch_lines import COMPLETION, answers, by_id, errors, line, read, write

RunCli = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


def other_model(tiny_model: Path, path: Path) -> Path:
    """Another model's file: one byte of its last weights differs."""
    data = bytearray(tiny_model.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_a_result_names_its_request_and_model(
    batch: RunCli, files: tuple[Path, Path], tiny_model: Path
) -> None:
    source, out = files
    batch(write(source, [line("a"), line("b"), line("bad", n=2)]), out)
    records = by_id(out)
    assert records["a"]["x"]["model"] == tiny_model.stem
    assert records["a"]["x"]["model_sha256"] == model_identity(str(tiny_model)).sha256
    assert records["a"]["x"]["request_sha256"] != records["b"]["x"]["request_sha256"]
    assert set(records["bad"]["x"]) == {"line_sha256"}


def test_the_same_request_written_otherwise_is_done(
    batch: RunCli, files: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    source, out = files
    batch(write(source, [line("a"), line("b")]), out)
    before = out.read_bytes()
    lines = [json.dumps(line(name), sort_keys=True, indent=None, separators=(" ,", " : ")) for name in "ba"]
    renamed = Path(shutil.copy(tiny_model, tmp_path / "renamed.gguf"))
    ran = batch(write(source, lines), out, model=renamed)
    assert ran.code == 0
    assert "nothing to do" in ran.err
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "changed", [line("a", max_tokens=7), line("a", COMPLETION), line("a", temperature="hot")]
)
def test_an_answer_to_another_request_is_refused(
    batch: RunCli, no_engine: None, files: tuple[Path, Path], changed: dict[str, Any]
) -> None:
    source, out = files
    answered = {"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200}, "error": None}
    out.write_text(json.dumps(answered | {"x": {"request_sha256": "0" * 64}}) + "\n")
    before = out.read_bytes()
    ran = batch(write(source, ["not json", line("new"), changed]), out)
    assert ran.code == 2
    assert 'custom_id "a" (line 3)' in ran.err
    assert "another request" in ran.err
    assert "another OUT file" in ran.err
    assert out.read_bytes() == before


def test_an_answer_of_another_model_is_refused(
    batch: RunCli, files: tuple[Path, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = files
    batch(write(source, [line("a")]), out)
    before = out.read_bytes()
    monkeypatch.setattr("llama_core.engine.load.load_engine", None)
    other = other_model(tiny_model, tmp_path / "other.gguf")
    ran = batch(write(source, [line("a"), line("b")]), out, model=other)
    assert ran.code == 2
    assert f"another model ({tiny_model.stem}, not other)" in ran.err
    same_name = other_model(tiny_model, tmp_path / tiny_model.name)
    assert "with SHA-256" in batch(source, out, model=same_name).err
    assert out.read_bytes() == before


def test_results_of_other_programs_are_taken_by_their_custom_id(
    batch: RunCli, files: tuple[Path, Path]
) -> None:
    source, out = files
    done = {"id": "batch_req_1", "custom_id": "done", "response": {"status_code": 200}, "error": None}
    refused = done | {"custom_id": "refused", "response": {"status_code": 400, "body": {"error": {}}}}
    failed = done | {"custom_id": "failed", "response": None, "error": {"code": "x", "message": "y"}}
    numbered = failed | {"custom_id": "bad", "error": {"code": "x", "message": "line 2: y", "line": 2}}
    out.write_text("".join(json.dumps(record) + "\n" for record in (done, refused, failed, numbered)))
    names = ["done", "refused", "failed", "bad"]
    ran = batch(write(source, [line(name) for name in names]), out)
    assert ran.code == 1
    assert "2 of 4 lines failed" in ran.err
    assert answers(out)[2:] == ["bad"]  # a number does not tell which line it was; this one is good now


def test_a_corrected_line_runs_and_counts_as_what_it_is_now(
    batch: RunCli, files: tuple[Path, Path], tmp_path: Path
) -> None:
    source, out = files
    assert batch(write(source, [line("a"), line("b", n=3), "junk"]), out).code == 1
    ran = batch(write(source, [line("a"), line("b"), "junk"]), out)
    assert ran.code == 1
    assert "1 of 3 lines failed" in ran.err
    ran = batch(write(source, [line("a"), line("b"), line("c")]), out)
    assert ran.code == 0
    assert "failed" not in ran.err
    assert Counter(answers(out)) == {"a": 1, "b": 1, "c": 1}
    assert len(errors(out)) == 2
    again = batch(source, out)
    assert (again.code, "nothing to do" in again.err) == (0, True)
    assert batch(write(source, [line("a")]), out).code == 0  # b and c are not in the input any more


def test_bad_lines_are_known_by_their_text(batch: RunCli, no_engine: None, files: tuple[Path, Path]) -> None:
    source, out = files
    batch(write(source, ["junk", "junk", "rubbish"]), out)
    assert [error["line"] for error in errors(out)] == [1, 2, 3]
    source.write_text("new\n\n  junk\nrubbish\njunk")
    ran = batch(source, out)
    assert [error["line"] for error in errors(out)] == [1, 2, 3, 1]
    assert "4 of 4 lines failed" in ran.err
    batch(write(source, ["junk", "junk", "junk"]), out)
    assert [error["line"] for error in errors(out)] == [1, 2, 3, 1, 3]
    assert batch(write(source, ["junk", "other"]), out).code == 1
    assert [error["line"] for error in errors(out)] == [1, 2, 3, 1, 3, 2]


def test_a_refused_prompt_is_remembered_until_it_changes(
    batch: RunCli, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_core.engine.text import TextEngine

    encode = TextEngine.encode_chat

    def refusing(self: Any, messages: Any, **options: Any) -> list[int]:
        if messages[0]["role"] == "assistant":
            raise TemplateError("The chat begins with the user.")
        return encode(self, messages, **options)

    monkeypatch.setattr(TextEngine, "encode_chat", refusing)
    source, out = files
    turned = [{"role": "assistant", "content": "Hello"}]
    lines = [line("a"), line("turned", messages=turned), line("none", COMPLETION, prompt=[10**6])]
    ran = batch(write(source, lines), out)
    assert ran.code == 1
    assert "2 of 3 lines failed" in ran.err
    found = {record["custom_id"]: record["error"] for record in read(out)}
    assert found["turned"]["message"] == "The chat begins with the user."
    assert found["turned"]["code"] == found["none"]["code"] == "invalid_prompt"
    before = out.read_bytes()
    again = batch(source, out)
    assert again.code == 1
    assert "nothing to do" in again.err
    assert out.read_bytes() == before
    assert batch(write(source, [line("a"), line("turned"), line("none")]), out).code == 0
    assert Counter(answers(out)) == {"a": 1, "turned": 1, "none": 1}


def test_what_does_not_fit_fails_alone_and_is_run_again_on_demand(
    batch: RunCli, files: tuple[Path, Path]
) -> None:
    source, out = files
    long = line("long", messages=[{"role": "user", "content": "x" * 300}])
    write(source, [long, line("fine"), line("open", max_tokens=None)])
    ran = batch(source, out, "--ctx-size", "128", "--kv-budget", "1")
    assert ran.code == 1
    found = by_id(out)
    assert found["long"]["error"]["code"] == "context_length_exceeded"
    assert found["fine"]["error"] is None
    assert found["open"]["error"] is None
    assert "nothing to do" in batch(source, out, "--ctx-size", "512").err
    assert batch(source, out, "--ctx-size", "512", "--retry-failed").code == 0
    assert Counter(answers(out)) == {"long": 1, "fine": 1, "open": 1}
    assert "nothing to do" in batch(source, out, "--retry-failed").err


def test_another_model_may_try_what_one_refused(
    batch: RunCli, files: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    source, out = files
    assert batch(write(source, [line("a", COMPLETION, prompt=[259 + 3])]), out).code == 1
    other = other_model(tiny_model, tmp_path / "other.gguf")
    assert "nothing to do" not in batch(source, out, model=other).err
    assert [record["x"]["model"] for record in read(out)] == [tiny_model.stem, "other"]


def test_a_model_is_known_by_all_of_its_files(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    first = model_identity(str(folder))
    assert first.name == "model"
    assert model_identity(str(folder / "config.json")) == first
    (folder / "notes.txt").write_text("no part of it")
    assert model_identity(str(folder)) == first
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert model_identity(str(folder)).sha256 != first.sha256
    parts = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    whole = model_identity(str(parts[0]))
    parts[1].write_bytes(b"GGUF and more")
    assert model_identity(str(parts[0])).sha256 != whole.sha256
    weights = tmp_path / "stories.bin"
    weights.write_bytes(b"weights")
    alone = model_identity(str(weights))
    (tmp_path / "tokenizer.bin").write_bytes(b"words")
    assert model_identity(str(weights)).sha256 != alone.sha256
    entry = CATALOGUE[DEFAULT_MODEL]
    assert model_identity(DEFAULT_MODEL).sha256 == entry.model_sha256


def test_a_tokenizer_given_is_part_of_the_model(tmp_path: Path, tiny_model: Path) -> None:
    words = tmp_path / "tokenizer.json"
    words.write_text("{}")
    with_words = model_identity(str(tiny_model), words)
    assert with_words.name == tiny_model.stem
    assert with_words.sha256 != model_identity(str(tiny_model)).sha256
    words.write_text('{"other": 1}')
    assert model_identity(str(tiny_model), words).sha256 != with_words.sha256
    assert model_identity(DEFAULT_MODEL, words).sha256 != model_identity(DEFAULT_MODEL).sha256
