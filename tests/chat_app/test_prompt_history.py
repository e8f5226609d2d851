"""Recalling prompts, and drafts that outlive a crash; a disk that fails is never the user's problem."""

from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chat_app.store.drafts import Drafts
from chat_app.store.file_system import FileSystem
from chat_app.store.prompt_history import PromptHistory


class BrokenDisk(FileSystem):
    """Nothing can be opened, made or read."""

    def open(self, path: Path, flags: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def read(self, path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "prompts.jsonl"


def test_prompts_are_recalled_from_the_newest_and_the_draft_comes_back(path: Path) -> None:
    history = PromptHistory(path)
    for prompt in ("one", "two\nlines", "three"):
        assert history.add(prompt)
    assert history.older("my draft") == "three"
    assert history.older("three, changed") == "two\nlines"
    assert history.newer() == "three"
    assert history.newer() == "my draft"
    assert history.newer() is None


def test_at_the_beginning_there_is_nothing_older(path: Path) -> None:
    history = PromptHistory(path)
    assert history.older("draft") is None
    assert history.newer() is None
    history.add("one")
    assert history.older("draft") == "one"
    assert history.older("one") is None
    assert history.newer() == "draft"


def test_sending_begins_recalling_anew(path: Path) -> None:
    history = PromptHistory(path)
    history.add("one")
    history.add("two")
    assert (history.older(""), history.older("")) == ("two", "one")
    history.add("three")
    assert history.older("") == "three"


def test_prompts_outlive_the_app_and_are_private(path: Path) -> None:
    PromptHistory(path).add("Grüße\n\ud800")
    assert PromptHistory(path).prompts == ["Grüße\n\ud800"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_blank_prompts_and_repetitions_are_not_kept(path: Path) -> None:
    history = PromptHistory(path)
    for prompt in ("same", "same", " \n", "other", "same"):
        assert history.add(prompt)
    assert PromptHistory(path).prompts == ["same", "other", "same"]


def test_the_file_does_not_grow_without_end(path: Path) -> None:
    history = PromptHistory(path, limit=5)
    sizes = []
    for number in range(30):
        history.add(f"prompt {number}")
        sizes.append(len(path.read_bytes().splitlines()))
    assert max(sizes) == 10
    assert PromptHistory(path, limit=5).prompts == history.prompts == [f"prompt {n}" for n in range(25, 30)]
    assert {one.name for one in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


def test_damaged_lines_are_passed_over(path: Path) -> None:
    history = PromptHistory(path)
    history.add("good")
    torn = b'{"prompt": "to'
    path.write_bytes(b"\xff\0\n[1]\n" + b"[" * 100_000 + b'\n{"prompt": 5}\n' + path.read_bytes() + torn)
    again = PromptHistory(path)
    assert again.prompts == ["good"]
    again.add("after the torn line")
    assert PromptHistory(path).prompts == ["good", "after the torn line"]
    assert json.loads(path.read_bytes().splitlines()[-1])["prompt"] == "after the torn line"


def test_a_disk_that_fails_leaves_recalling_at_work(path: Path) -> None:
    history = PromptHistory(path, fs=BrokenDisk())
    assert history.add("one") is False
    assert history.older("") == "one"


def test_what_could_not_be_written_is_written_with_the_next_prompt(path: Path) -> None:
    history = PromptHistory(path)
    path.parent.write_text("a file where the folder should be")
    assert history.add("one") is False
    path.parent.unlink()
    assert history.add("two") is True
    assert PromptHistory(path).prompts == ["one", "two"]


def test_a_draft_is_kept_for_each_chat_until_it_is_sent(tmp_path: Path) -> None:
    folder = tmp_path / "drafts"
    drafts = Drafts(folder)
    assert drafts.save("20261123-120000-abcdef", "half a tho\ud800ught\n")
    assert drafts.save("new", "other")
    assert Drafts(folder).load("20261123-120000-abcdef") == "half a tho\ud800ught\n"
    assert drafts.load("unknown") == ""
    assert drafts.save("new", " ")
    assert drafts.save("new", "")
    assert drafts.load("new") == ""
    assert [stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()] == [0o600]


def test_only_the_newest_drafts_are_kept(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path / "drafts", limit=3)
    for number in range(6):
        drafts.save(f"chat{number}", "text")
        os.utime(tmp_path / "drafts" / f"chat{number}.txt", ns=(number, number))
    assert sorted(one.name for one in (tmp_path / "drafts").iterdir()) == [
        "chat3.txt",
        "chat4.txt",
        "chat5.txt",
    ]


def test_drafts_survive_a_bad_disk_and_bad_names(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path / "drafts", fs=BrokenDisk())
    assert drafts.save("new", "text") is False
    assert drafts.load("new") == ""
    (tmp_path / "outside.txt").write_text("not a draft")
    with pytest.raises(ValueError, match="no chat id"):
        Drafts(tmp_path / "drafts").load("../outside")
    (tmp_path / "drafts").mkdir(exist_ok=True)
    (tmp_path / "drafts" / "new.txt").write_bytes(b"\xff\xfe")
    assert Drafts(tmp_path / "drafts").load("new") == ""


def test_prompts_added_by_several_threads_are_each_written_once(path: Path) -> None:
    history = PromptHistory(path)
    prompts = [f"prompt {number}" for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(history.add, prompts))
    written = [json.loads(line)["prompt"] for line in path.read_bytes().splitlines()]
    assert sorted(written) == sorted(prompts)
