"""What was computed over time."""

from __future__ import annotations

from dataclasses import replace

from chat_app.store.chats import ChatStore
from chat_app.store.usage import Usage, usage_table


def reply(store: ChatStore, month: str, model: str | None, **timings: object) -> None:
    chat = store.create(model="the chat's own")
    question = chat.conversation.add("user", "?")
    chat.append(question)
    x = {"timings": timings} | ({"model": model} if model else {})
    answer = chat.conversation.add("assistant", "!", x=x)
    chat.append(replace(answer, time=f"{month}-07T10:00:00.000000Z"))
    chat.close()


NUMBERS = {"prompt_n": 10, "cache_n": 5, "predicted_n": 20, "prompt_ms": 500.0, "predicted_ms": 2000.0}


def test_months_and_models_are_summed(store: ChatStore) -> None:
    reply(store, "2026-10", "a", **NUMBERS)
    reply(store, "2026-11", "b", **NUMBERS)
    reply(store, "2026-11", "b", **NUMBERS)
    reply(store, "2026-11", None)
    assert store.usage() == [
        Usage("2026-11", "b", 2, 2, 20, 10, 40, 1.0, 4.0, 20, 38),
        Usage("2026-11", "the chat's own", 1, 1, 0, 0, 0, 0.0, 0.0, 0, 0),
        Usage("2026-10", "a", 1, 1, 10, 5, 20, 0.5, 2.0, 10, 19),
    ]


def test_the_table_sums_up_and_is_inert(store: ChatStore) -> None:
    assert usage_table(store.usage()) == "Nothing was said yet."
    reply(store, "2026-11", "b\x1b[31m", **NUMBERS)
    reply(store, "2026-10", "a", **NUMBERS)
    lines = usage_table(store.usage()).splitlines()
    assert "\x1b" not in "".join(lines)
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["all", "2", "2", "40", "9.5", "20", "20.0", "10"]


def test_tokens_whose_time_nobody_told_make_no_rate(store: ChatStore) -> None:
    """A server told how long its prompts are, not how long they took."""
    reply(store, "2026-11", "a", **NUMBERS)
    reply(store, "2026-11", "far", **{**NUMBERS, "prompt_n": 9000, "prompt_ms": 0.0})
    lines = usage_table(store.usage()).splitlines()
    assert [line.split()[-3:] for line in lines[1:]] == [
        ["10", "20.0", "5"],
        ["9,000", "–", "5"],
        ["9,010", "20.0", "10"],
    ]


def test_timings_that_are_no_json_do_not_hide_the_rest(store: ChatStore) -> None:
    reply(store, "2026-11", "b", **NUMBERS)
    store.database.write(lambda connection: connection.execute("UPDATE message SET timings = '{' "))
    assert [(one.replies, one.written_n) for one in store.usage()] == [(1, 0)]
