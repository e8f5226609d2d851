"""Files that go with a prompt: read when it is sent, kept with the message, in every branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.attachments.attachment import attachments_of
from tests.support.stage import Stage


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.txt").write_text("alpha")
    (here / "b.txt").write_text("beta")
    (here / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    monkeypatch.chdir(here)
    return here


def asked(stage: Stage) -> str:
    """The last turn that the engine got."""
    return str(stage.engine.calls[-1][1][-1]["content"])


def attached(stage: Stage, at: int = 0) -> list[str]:
    return [one.name for one in attachments_of(stage.path()[at].x)]


async def test_a_mention_goes_to_the_model_and_into_the_record(stage: Stage) -> None:
    await stage.say("what is in @a.txt?")
    assert asked(stage) == '<file name="a.txt">\nalpha\n</file>\n\nwhat is in @a.txt?'
    assert stage.words()[0] == "what is in @a.txt?"
    (saved,) = attachments_of(stage.on_disk()[0].x)
    assert (saved.name, saved.text, saved.typed) == ("a.txt", "alpha", "a.txt")
    assert stage.session.conversation.title == "what is in a.txt?"


async def test_later_turns_send_the_file_as_it_was(stage: Stage, folder: Path) -> None:
    await stage.say("read @a.txt")
    (folder / "a.txt").write_text("changed")
    await stage.say("and now?")
    turns = stage.engine.calls[-1][1]
    assert "alpha" in turns[0]["content"]
    assert not any("changed" in turn["content"] for turn in turns)


async def test_files_by_name_and_the_text_left_alone(stage: Stage) -> None:
    stage.session.submit("see @a.txt", files=["b.txt"], mentions=False)
    await stage.until(lambda: len(stage.path()) == 2 and stage.idle())
    assert asked(stage) == '<file name="b.txt">\nbeta\n</file>\n\nsee @a.txt'


async def test_regenerating_keeps_the_file(stage: Stage, folder: Path) -> None:
    reply = await stage.say("read @a.txt")
    (folder / "a.txt").unlink()
    await stage.session.branches.regenerate(reply.id)
    await stage.until(stage.idle)
    assert "alpha" in asked(stage)


async def test_an_edit_keeps_what_is_still_mentioned_as_it_was_read(stage: Stage, folder: Path) -> None:
    stage.session.submit("compare @a.txt", files=["b.txt"])
    await stage.until(lambda: len(stage.path()) == 2 and stage.idle())
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text("changed")
    (folder / "c.txt").write_text("gamma")
    first = stage.path()[0].id
    stage.session.submit("compare @c.txt", edits=first)
    await stage.until(lambda: "compare @c.txt" in stage.words() and stage.idle())
    assert attached(stage) == ["c.txt", "b.txt"]
    assert "beta" in asked(stage)
    assert "alpha" not in asked(stage)
    stage.session.branches.switch_branch(stage.path()[0].id, -1)
    assert attached(stage) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("files", [["p.png"], ["nowhere.txt"], ["~nobody-here/x"]])
async def test_a_file_that_is_refused_gives_the_prompt_back(stage: Stage, files: list[str]) -> None:
    stage.session.submit("look", files=files)
    await stage.until(stage.idle)
    assert stage.path() == []
    assert len(stage.view.notes) == 1
    assert stage.view.returned == [f"@{files[0]} look"]


async def test_a_queue_taken_back_keeps_the_files_as_mentions(stage: Stage) -> None:
    stage.engine.gate.clear()
    stage.session.submit("one")
    stage.session.submit("two", files=["a.txt"])
    assert stage.session.unsent[-1] == "@a.txt two"
    stage.session.take_back_queue()
    assert stage.view.returned == ["@a.txt two"]
    stage.engine.gate.set()
    await stage.until(stage.idle)


async def test_a_raw_prompt_reads_no_mention(stage: Stage) -> None:
    stage.session.submit("@a.txt", raw=True)
    await stage.until(lambda: len(stage.path()) == 2 and stage.idle())
    assert asked(stage) == "@a.txt"


async def test_a_part_of_what_does_not_fit(stage: Stage, folder: Path) -> None:
    stage.engine.ctx_size = 200
    (folder / "long.txt").write_text("a line of five words\n" * 100)
    stage.view.room = "part"
    await stage.say("sum up @long.txt")
    assert stage.view.files_n == 1
    (file,) = attachments_of(stage.path()[0].x)
    assert file.cut
    assert 20 < len(file.text.splitlines()) < 40
    assert asked(stage).startswith('<file name="long.txt" part="beginning">\na line of five words\n')
    assert stage.words()[0] == "sum up @long.txt"


async def test_a_question_too_long_without_its_files_comes_back(stage: Stage) -> None:
    stage.engine.ctx_size = 60
    stage.view.room = "part"
    stage.session.submit("word " * 80, files=["a.txt"])
    await stage.until(stage.idle)
    assert stage.path() == []
    assert stage.view.returned[0].startswith("@a.txt word")
