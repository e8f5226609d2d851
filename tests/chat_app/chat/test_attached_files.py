"""Files that go with a prompt: read when it is sent, kept with the message, in every branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_app.attachments.attachment import Attachment, attachments_of
from chat_app.chat.file_summary import REQUEST, FileSummary, summarise_file
from chat_app.chat.summary import SummaryDraft
from llama_core.errors import ContextFullError
from llama_core.sampling.params import SamplingParams
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


def summaries(turns: Any) -> str:
    """A summary where one is asked for, else a few words."""
    return "numbers and lines" if REQUEST in turns[-1]["content"] else "Done."


def pieces(stage: Stage) -> list[str]:
    """What the model was to summarise, as it was asked."""
    return [str(turns[-1]["content"]) for name, turns in stage.engine.calls if REQUEST in str(turns)]


async def test_a_summary_of_what_does_not_fit(stage: Stage, folder: Path) -> None:
    stage.engine.ctx_size, stage.engine.script = 200, summaries
    text = "".join(f"line {n} of many words\n" for n in range(100))
    (folder / "long.txt").write_text(text)
    stage.view.room = "digest"
    stage.view.edit = lambda text: text.replace("lines", "LINES", 1)
    await stage.say("compare @long.txt with @a.txt")
    asked_for = pieces(stage)
    assert len(asked_for) > 2
    begin, end = 'who asks: compare @long.txt with @a.txt\n\n<file name="long.txt">\n', "\n</file>\n\n"
    assert "".join(one.split(begin)[1].split(end)[0] + "\n" for one in asked_for) == text
    (long, short) = attachments_of(stage.path()[0].x)
    assert (long.text, long.cut, short.summary) == (text, False, "")
    assert long.summary == "\n\n".join(["numbers and LINES", *["numbers and lines"] * (len(asked_for) - 1)])
    assert asked(stage).startswith(f'<file name="long.txt" part="summary">\n{long.summary}\n</file>\n\n<file')
    assert attachments_of(stage.on_disk()[0].x) == (long, short)
    await stage.say("and then?")
    assert "numbers and LINES" in stage.engine.calls[-1][1][0]["content"]


async def test_a_summary_that_is_stopped_gives_the_prompt_back(stage: Stage, folder: Path) -> None:
    stage.engine.ctx_size, stage.engine.script = 200, summaries
    (folder / "long.txt").write_text("a line of five words\n" * 100)
    stage.view.room = "digest"
    drafts: list[Any] = []

    async def leave(draft: Any) -> None:
        drafts.append(draft)
        stage.engine.gate.clear()
        await stage.until(lambda: draft.step)

    stage.view.review_summary = leave  # type: ignore[assignment,method-assign]
    stage.session.submit("sum up @long.txt")
    await stage.until(lambda: stage.view.returned and not stage.tasks)
    assert drafts[0].step.startswith("part 1 of ")
    assert drafts[0].error == "Stopped.", "with the gate still shut"
    assert stage.view.returned == ["sum up @long.txt"]
    assert stage.path() == []
    stage.engine.gate.set()


async def test_summaries_that_are_too_long_are_summarised(stage: Stage) -> None:
    stage.engine.ctx_size = 200
    stage.engine.script = lambda turns: "word " * (40 if "line" in turns[-1]["content"] else 5)
    file = Attachment("long.txt", "/long.txt", "a line of five words\n" * 200)
    draft = SummaryDraft("long.txt", "", "")
    wanted = FileSummary(file, "", 60)
    params = SamplingParams()
    text = await stage.session.ask(lambda engine: summarise_file(engine, wanted, params, draft))
    assert 0 < len(text.split()) <= 60
    assert draft.text.split() == text.split()
    steps = [str(turns[-1]["content"]) for _, turns in stage.engine.calls]
    assert any("a line of" in one for one in steps)
    assert any("word word" in one for one in steps), "the summaries themselves"


async def test_a_context_without_room_for_a_line_says_so(stage: Stage) -> None:
    stage.engine.ctx_size = 20
    wanted = FileSummary(Attachment("a", "/a", "one two"), "", 60)
    draft = SummaryDraft("a", "", "")
    with pytest.raises(ContextFullError):
        await stage.session.ask(lambda engine: summarise_file(engine, wanted, SamplingParams(), draft))
