"""Searching old chats: all terms, any case, newest first, with the matches marked; damage is no obstacle."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.store.chat_search import Hit, find_spans, make_snippet, search_chats, split_terms
from chat_app.store.transcripts import TranscriptStore


def write(store: TranscriptStore, *texts: str, title: str = "") -> str:
    transcript = store.create(model="toy", title=title)
    for text in texts:
        transcript.append(transcript.conversation.add("user", text))
    transcript.close()
    return transcript.id


def search(store: TranscriptStore, query: str) -> list[Hit]:
    return list(search_chats(store.root, store.list(), query))


def marked(hit: Hit) -> list[str]:
    return [hit.snippet.text[start:end] for start, end in hit.snippet.spans]


@pytest.fixture
def store(tmp_path: Path) -> TranscriptStore:
    return TranscriptStore(tmp_path / "chats")


def test_all_terms_must_stand_in_one_message(store: TranscriptStore) -> None:
    both = write(store, "The capital of France is Paris.")
    write(store, "The capital of Spain", "France is larger")
    (hit,) = search(store, "FRANCE capital")
    assert hit.chat.id == both
    assert marked(hit) == ["capital", "France"]


def test_the_newest_chat_and_message_come_first(store: TranscriptStore) -> None:
    first = write(store, "a pear", "nothing", "another pear tree")
    second = write(store, "pears")
    hits = search(store, "pear")
    assert [hit.chat.id for hit in hits] == [second, first]
    assert (hits[1].snippet.text, hits[1].count) == ("another pear tree", 2)
    assert store.read(first).get(str(hits[1].message_id)).content == "another pear tree"


def test_a_title_is_searched_too(store: TranscriptStore) -> None:
    write(store, "hello", title="Garden plans")
    (hit,) = search(store, "garden")
    assert (hit.message_id, marked(hit)) == (None, ["Garden"])


def test_keys_and_checksums_of_the_file_are_not_searched(store: TranscriptStore) -> None:
    write(store, "hello")
    for query in ("parent", "crc", "role", "complete", '"content"', "x"):
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
    ],
)
def test_text_of_any_kind_is_found_as_a_reader_would(
    store: TranscriptStore, text: str, query: str, found: list[str]
) -> None:
    write(store, text)
    assert list(itertools.chain.from_iterable(map(marked, search(store, query)))) == found


def test_lines_written_by_other_programs_with_escapes_are_found(store: TranscriptStore) -> None:
    chat_id = write(store, "hello")
    with (store.root / chat_id / "messages.jsonl").open("ab") as file:
        file.write(b'{"role":"assistant","content":"gr\\u00fc\\u00dfe"}\n')
    (hit,) = search(store, "GRÜSSE")
    assert marked(hit) == ["grüße"]


def test_only_the_last_state_of_a_reply_counts(store: TranscriptStore) -> None:
    from dataclasses import replace

    transcript = store.create(model="toy")
    reply = transcript.conversation.add("assistant", "draft word", status="partial")
    transcript.append(reply)
    transcript.append(replace(reply, content="final word"))
    transcript.close()
    assert search(store, "draft") == []
    assert search(store, "word")[0].count == 1


def test_damage_hides_nothing_else(store: TranscriptStore) -> None:
    chat_id = write(store, "first apple", "second apple")
    path = store.root / chat_id / "messages.jsonl"
    path.write_bytes(b"\xff\x00 rubbish\n" + path.read_bytes()[:-5])
    (hit,) = search(store, "apple")
    assert (hit.count, hit.snippet.text) == (1, "first apple")
    path.unlink()
    path.mkdir()
    assert search(store, "apple") == []


def test_a_search_can_be_stopped(store: TranscriptStore) -> None:
    for _ in range(5):
        write(store, "word")
    asked = iter([False, False, True])
    assert len(list(search_chats(store.root, store.list(), "word", lambda: next(asked)))) == 2


def test_no_query_finds_nothing(store: TranscriptStore) -> None:
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


def test_a_thousand_chats_are_searched_while_typing(store: TranscriptStore) -> None:
    # No time is asserted; a search that parsed every file would be told by the count of parsed ones.
    import chat_app.store.chat_search as module

    template = store.root / write(
        store, *(f"question {n} " + "words and more words " * 20 for n in range(20))
    )
    data = (template / "messages.jsonl").read_bytes()
    for number in range(999):
        folder = store.root / f"20200101-000000-{number:08x}"
        folder.mkdir()
        text = b"a rare needle" if number == 500 else b"words and more"
        (folder / "messages.jsonl").write_bytes(data.replace(b"words and more", text, 1))
    parsed = 0
    original = module.read_records

    def counting(data: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return original(data)

    chats = store.list()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_records", counting)
        (hit,) = search_chats(store.root, chats, "NEEDLE rare")
    assert hit.chat.id == "20200101-000000-000001f4"
    assert (len(chats), parsed) == (1000, 1)
