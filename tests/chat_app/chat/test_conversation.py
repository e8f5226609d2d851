"""The tree of messages: branches stay reachable, and the engine is sent what was really said."""

from __future__ import annotations

import re
import time
from dataclasses import FrozenInstanceError, replace

import pytest

from chat_app.chat.conversation import Conversation, Message, utc_now


def talk() -> tuple[Conversation, list[Message]]:
    chat = Conversation("c")
    return chat, [
        chat.add("user", "one"),
        chat.add("assistant", "uno"),
        chat.add("user", "two"),
        chat.add("assistant", "dos"),
    ]


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def test_each_message_follows_the_tip_and_becomes_it() -> None:
    chat, turns = talk()
    assert chat.path() == turns
    assert chat.tip == turns[-1].id
    assert [turn.parent for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    assert len({turn.id for turn in turns}) == 4
    assert sorted(turn.time for turn in turns) == [turn.time for turn in turns]


def test_a_message_cannot_be_changed() -> None:
    message = Conversation().add("user", "as it was")
    with pytest.raises(FrozenInstanceError):
        message.content = "otherwise"  # type: ignore[misc]


def test_an_edit_is_a_sibling_and_the_original_keeps_its_replies() -> None:
    chat, turns = talk()
    edited = chat.edit(turns[2].id, "three")
    assert texts(chat.path()) == ["one", "uno", "three"]
    assert chat.siblings(edited.id) == [turns[2], edited]
    chat.select_branch(turns[2].id)
    assert chat.path() == turns


def test_an_edit_of_the_first_message_is_a_second_root() -> None:
    chat, turns = talk()
    edited = chat.edit(turns[0].id, "eins")
    assert chat.path() == [edited]
    assert chat.children(None) == [turns[0], edited]


def test_regenerating_adds_a_reply_to_the_same_question() -> None:
    chat, turns = talk()
    again = chat.regenerate(turns[3].id)
    assert (again.parent, again.role, again.status) == (turns[2].id, "assistant", "partial")
    first = chat.regenerate(turns[2].id)
    assert chat.siblings(first.id) == [turns[3], again, first]
    assert texts(chat.path()) == ["one", "uno", "two", ""]


def test_selecting_a_message_branches_there() -> None:
    chat, turns = talk()
    chat.select(turns[1].id)
    assert chat.path() == turns[:2]
    other = chat.add("user", "another way")
    assert chat.children(turns[1].id) == [turns[2], other]


def test_a_branch_is_shown_as_it_was_last_seen() -> None:
    chat, turns = talk()
    chat.regenerate(turns[3].id)
    chat.select(turns[3].id)
    edited = chat.edit(turns[2].id, "elsewhere")
    chat.select_branch(turns[2].id)
    assert chat.tip == turns[3].id
    chat.select_branch(edited.id)
    assert chat.tip == edited.id


def test_update_replaces_the_text_in_its_place() -> None:
    chat, turns = talk()
    chat.update(replace(turns[1], content="uno y medio", status="stopped"))
    assert texts(chat.path()) == ["one", "uno y medio", "two", "dos"]
    with pytest.raises(ValueError, match="move"):
        chat.update(replace(turns[1], parent=None))
    with pytest.raises(KeyError):
        chat.update(replace(turns[1], id="nowhere"))


def test_what_would_break_the_tree_is_refused() -> None:
    chat, turns = talk()
    with pytest.raises(KeyError):
        chat.add("user", "lost", parent="nowhere")
    with pytest.raises(KeyError):
        chat.select("nowhere")
    with pytest.raises(ValueError, match="already"):
        chat.insert(turns[0])
    with pytest.raises(ValueError, match="role"):
        chat.insert(replace(turns[0], id="new", role="tool"))  # type: ignore[arg-type]
    assert len(chat) == 4


def test_the_engine_is_sent_partial_and_stopped_replies_but_no_failed_ones() -> None:
    chat = Conversation()
    chat.add("user", "one")
    chat.add("assistant", "half of", status="stopped")
    chat.add("user", "two")
    chat.add("assistant", "cut o", status="partial")
    chat.add("user", "three")
    chat.add("assistant", "NaN NaN", status="failed")
    assert [turn["content"] for turn in chat.to_messages(None)] == ["one", "half of", "two", "cut o", "three"]


def test_roles_still_alternate_where_a_failed_or_empty_reply_is_left_out() -> None:
    chat = Conversation()
    chat.add("user", "one")
    chat.add("assistant", "", status="stopped")
    chat.add("user", "two")
    assert chat.to_messages(None) == [{"role": "user", "content": "one\n\ntwo"}]
    assert texts(chat.path()) == ["one", "", "two"]


def test_the_system_prompt_given_replaces_the_one_of_the_chat() -> None:
    chat = Conversation()
    chat.add("system", "Be brief.")
    chat.add("user", "Hi")
    hello = {"role": "user", "content": "Hi"}
    assert chat.to_messages(None) == [{"role": "system", "content": "Be brief."}, hello]
    assert chat.to_messages("Be kind.") == [{"role": "system", "content": "Be kind."}, hello]
    assert chat.to_messages("") == [hello]


def test_a_prompt_can_end_before_the_tip() -> None:
    chat, turns = talk()
    assert len(chat.to_messages("s", upto=turns[2].id)) == 4


def test_taking_over_another_tree_keeps_what_only_this_one_holds() -> None:
    chat, turns = talk()
    other = Conversation("c", "title")
    for turn in turns[:2]:
        other.insert(turn)
    later = other.add("user", "from the other window", parent=turns[1].id)
    chat.take_over(other)
    assert {message.id for message in chat} == {*(turn.id for turn in turns), later.id}
    assert chat.tip == later.id
    assert chat.path(turns[3].id) == turns


def test_times_are_in_order_though_the_clock_stands_still_or_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = utc_now()
    for clock in (0, time.time_ns() - 10**9, 0):
        monkeypatch.setattr(time, "time_ns", lambda clock=clock: clock)
        now = utc_now()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now)
        assert now > before
        before = now
