"""Searching old chats: all terms, any case, best first, with the matches marked."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.store.chats import ChatStore
from chat_app.store.search import Hit, find_spans, make_snippet, split_terms


def write(store: ChatStore, *texts: str, title: str = "") -> str:
    transcript = store.create(model="toy", title=title)
    for text in texts:
        transcript.append(transcript.conversation.add("user", text))
    transcript.close()
    return transcript.id


def search(store: ChatStore, query: str) -> list[Hit]:
    return store.search(store.list(), query)


def marked(hit: Hit) -> list[str]:
    return [hit.snippet.text[start:end] for start, end in hit.snippet.spans]


def test_all_terms_must_stand_in_one_message(store: ChatStore) -> None:
    both = write(store, "The capital of France is Paris.")
    write(store, "The capital of Spain", "France is larger")
    (hit,) = search(store, "FRANCE capital")
    assert hit.chat.id == both
    assert marked(hit) == ["capital", "France"]


def test_the_best_message_and_chat_come_first(store: ChatStore) -> None:
    much = write(store, "pear pear, a pear", "nothing", "a long text, with one pear among much else")
    little = write(store, "of all the fruit in the garden, of which there is a lot, only one is a pear")
    hits = search(store, "pear")
    assert [hit.chat.id for hit in hits] == [much, little]
    assert (hits[0].snippet.text, hits[0].count) == ("pear pear, a pear", 2)
    assert store.read(much).get(str(hits[0].message_id)).content == "pear pear, a pear"


def test_what_is_in_the_title_comes_first_and_of_equal_ones_the_newest(store: ChatStore) -> None:
    first, second = write(store, "a plum"), write(store, "a plum")
    mentioned = write(store, "fruit", "a plum")
    titled = write(store, "nothing of it", title="Plum cake")
    write(store, "something else")
    assert [hit.chat.id for hit in search(store, "plum")] == [second, first, titled, mentioned]


def test_a_title_is_searched_too(store: ChatStore) -> None:
    write(store, "hello", title="Garden plans")
    (hit,) = search(store, "garden")
    assert (hit.message_id, marked(hit)) == (None, ["Garden"])


def test_nothing_but_texts_and_titles_is_searched(store: ChatStore) -> None:
    write(store, "hello")
    for query in ("parent", "checksum", "user", "complete", '"content"', "x", "toy"):
        assert search(store, query) == []


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Die STRASSE und die Straße", "strasse", ["STRASSE", "Straße"]),
        ("İstanbul and more", "more", ["more"]),
        ('say "hi" \\ now', "\\", ["\\"]),
        ("say:\none\ttwo", '"one two"', ["one two"]),  # by the title, which is the text on one line
        ("new york new", '"new york"', ["new york"]),
        ("lone \ud800 half", "half", ["half"]),
        ("ελληνικός", "ΕΛΛΗΝΙΚΌΣ", ["ελληνικός"]),
        ("emoji 🙂 here", "🙂", ["🙂"]),
        ("你好，世界", "世界", ["世界"]),
        ("今天天气很好", "天气很", ["天气很"]),
        ("東京タワーに行く", "タワー", ["タワー"]),
        ("unbelievable", "believ", ["believ"]),
        ("an AI and I", "ai", ["AI"]),
        ("before \0 behind", "behind", ["behind"]),
        ('"quoted" AND (NEAR) col:* -x', "(near) col:* -x and", ["AND", "(NEAR)", "col:*", "-x"]),
    ],
)
def test_text_of_any_kind_is_found_as_a_reader_would(
    store: ChatStore, text: str, query: str, found: list[str]
) -> None:
    write(store, text)
    assert list(itertools.chain.from_iterable(map(marked, search(store, query)))) == found


def test_a_growing_reply_is_found_by_its_last_state_only(store: ChatStore) -> None:
    transcript = store.create(model="toy")
    reply = transcript.conversation.add("assistant", "draft word", status="partial")
    transcript.append(reply)
    assert search(store, "draft")[0].count == 1
    transcript.append(replace(reply, content="final word", status="complete"))
    assert search(store, "draft") == []
    assert search(store, "word")[0].count == 1
    transcript.append(replace(reply, content="final word, continued", status="partial"))
    assert search(store, "continued")[0].count == search(store, "word")[0].count == 1


def test_what_is_removed_or_in_the_trash_is_not_found(store: ChatStore) -> None:
    one, two = write(store, "apple one"), write(store, "apple two")
    store.delete(one)
    assert [hit.chat.id for hit in search(store, "apple")] == [two]
    assert [hit.chat.id for hit in store.search(store.list(deleted=True), "apple")] == [one]
    store.remove(two)
    assert search(store, "apple") == []


def test_a_search_can_be_stopped(store: ChatStore) -> None:
    write(store, *("word and more words " * 200 for _ in range(50)))
    assert len(search(store, "or")) == 1
    chats = store.list()
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return True

    (hit,) = store.search(chats, "or", cancelled)
    assert hit.message_id is None, "the title alone was looked at"
    assert asked == 50


def test_no_query_finds_nothing(store: ChatStore) -> None:
    write(store, "word")
    assert search(store, "  ") == search(store, '""') == []
    assert split_terms('one "two  three" ONE') == ("one", "two  three")


def test_a_long_text_is_cut_around_the_match() -> None:
    snippet = make_snippet("x " * 500 + "needle" + " y" * 500, ("needle",))
    assert snippet.text.startswith("…")
    assert snippet.text.endswith("…")
    assert [snippet.text[start:end] for start, end in snippet.spans] == ["needle"]
    assert len(snippet.text) <= 162


@given(st.text(), st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3))
def test_marks_lie_inside_the_text_in_order_and_cover_matches(text: str, words: list[str]) -> None:
    terms = [word.casefold() for word in words]
    spans = find_spans(text, terms)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    for start, end in spans:
        assert any(term in text[start:end].casefold() for term in terms)
    assert bool(spans) == any(term in text.casefold() for term in terms)
    make_snippet(text, terms)


def test_the_index_narrows_down_what_is_looked_at(store: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # No time is asserted; a search that looked at every message would be told by the count of them.
    import chat_app.store.search as module

    for number in range(40):
        texts = ["words and more words", "a rare needle" if number == 20 else "hay"]
        write(store, *texts)
    looked_at: list[str] = []
    fits = module._fits
    monkeypatch.setattr(module, "_fits", lambda text, terms: looked_at.append(text) or fits(text, terms))
    (hit,) = search(store, "NEEDLE rare")
    assert hit.snippet.text == "a rare needle"
    titles = 40
    assert len(looked_at) == titles + 1
