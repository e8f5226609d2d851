"""Recalling prompts, and drafts that outlive a crash; a disk that fails is never the user's problem."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from chat_app.store.database import Database
from chat_app.store.prompts import Drafts, PromptHistory


def test_prompts_are_recalled_from_the_newest_and_the_draft_comes_back(database: Database) -> None:
    history = PromptHistory(database)
    for prompt in ("one", "two\nlines", "three"):
        assert history.add(prompt)
    assert history.older("my draft") == "three"
    assert history.older("three, changed") == "two\nlines"
    assert history.newer() == "three"
    assert history.newer() == "my draft"
    assert history.newer() is None


def test_at_the_beginning_there_is_nothing_older(database: Database) -> None:
    history = PromptHistory(database)
    assert history.older("draft") is None
    assert history.newer() is None
    assert not database.path.parent.exists(), "looking creates nothing"
    history.add("one")
    assert history.older("draft") == "one"
    assert history.older("one") is None
    assert history.newer() == "draft"


def test_sending_begins_recalling_anew(database: Database) -> None:
    history = PromptHistory(database)
    history.add("one")
    history.add("two")
    assert (history.older(""), history.older("")) == ("two", "one")
    history.add("three")
    assert history.older("") == "three"


def test_prompts_outlive_the_app(database: Database) -> None:
    PromptHistory(database).add("Grüße\n\ud800")
    assert PromptHistory(Database(database.path)).prompts == ["Grüße\n\ud800"]


def test_blank_prompts_and_repetitions_are_not_kept(database: Database) -> None:
    history = PromptHistory(database)
    for prompt in ("same", "same", " \n", "other", "same"):
        assert history.add(prompt)
    assert PromptHistory(database).prompts == ["same", "other", "same"]


def test_the_history_does_not_grow_without_end(database: Database) -> None:
    history = PromptHistory(database, limit=5)
    for number in range(30):
        history.add(f"prompt {number}")
    count = database.read(lambda connection: connection.execute("SELECT count(*) FROM prompt").fetchone())
    assert count == (5,)
    assert history.prompts == [f"prompt {n}" for n in range(25, 30)]
    assert PromptHistory(database, limit=5).prompts == history.prompts


def test_what_could_not_be_written_is_written_with_the_next_prompt(database: Database) -> None:
    history = PromptHistory(database)
    database.path.parent.write_text("a file where the folder should be")
    assert history.add("one") is False
    assert history.older("") == "one"
    database.path.parent.unlink()
    assert history.add("two") is True
    assert PromptHistory(database).prompts == ["one", "two"]


@pytest.mark.parametrize("there", [True, False])
def test_where_nothing_shall_be_saved_nothing_is(database: Database, there: bool) -> None:
    if there:
        PromptHistory(database).add("from before")
        Drafts(database).save("new", "typed before")
    database.close()
    before = database.path.read_bytes() if there else b""
    history, drafts = PromptHistory(database, save=False), Drafts(database, save=False)
    history.add("secret")
    drafts.save("new", "secret too")
    assert history.older("") == "secret"
    assert drafts.load("new") == ("typed before" if there else "")
    database.close()
    assert (database.path.read_bytes() if there else b"") == before
    assert database.path.exists() == there


def test_a_draft_is_kept_for_each_chat_until_it_is_sent(database: Database) -> None:
    drafts = Drafts(database)
    assert drafts.save("new", "")
    assert not database.path.parent.exists(), "no draft creates nothing"
    assert drafts.save("20261123-120000-abcdef", "half a tho\ud800ught\n")
    assert drafts.save("new", "other")
    assert Drafts(database).load("20261123-120000-abcdef") == "half a tho\ud800ught\n"
    assert drafts.load("unknown") == ""
    assert drafts.save("new", " ")
    assert drafts.load("new") == ""


def test_only_the_newest_drafts_are_kept(database: Database) -> None:
    drafts = Drafts(database, limit=3)
    for number in (0, 1, 2, 3, 1, 4, 5):
        drafts.save(f"chat{number}", "text")
    assert [number for number in range(6) if drafts.load(f"chat{number}")] == [1, 4, 5]


def test_a_draft_that_cannot_be_written_is_told_by_a_no(database: Database) -> None:
    database.path.parent.write_text("a file where the folder should be")
    drafts = Drafts(database)
    assert drafts.save("new", "text") is False
    assert drafts.load("new") == ""


def test_prompts_added_by_several_threads_are_each_written_once(database: Database) -> None:
    history = PromptHistory(database)
    prompts = [f"prompt {number}" for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(history.add, prompts))
    assert sorted(PromptHistory(database).prompts) == sorted(prompts)


def test_what_is_remembered_is_on_disk_with_the_next_flush_and_recalls_on(database: Database) -> None:
    history = PromptHistory(database)
    history.add("sent")
    assert history.older("typed") == "sent"
    assert history.remember("put aside")
    assert not history.remember("put aside")
    assert history.newer() == "put aside", "where one stands is not forgotten"
    assert PromptHistory(database).prompts == ["sent"]
    assert history.flush()
    assert PromptHistory(database).prompts == ["sent", "put aside"]
    unsaved = PromptHistory(database, save=False)
    unsaved.remember("secret")
    assert unsaved.flush()
    assert PromptHistory(database).prompts == ["sent", "put aside"]
