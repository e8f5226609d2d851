"""faults.md row 14: one byte flipped or the file cut anywhere: all other records are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.chat.conversation import Conversation, Message
from chat_app.store.file_system import FileSystem
from chat_app.store.transcript_records import build_conversation, encode_record, read_records
from chat_app.store.transcripts import TranscriptStore


def sample() -> list[Message]:
    """Five records: each text once, one checkpoint, characters of one to four bytes."""
    chat = Conversation("c")
    one = chat.add("user", 'Grüße, "you" {"role":"user"} \\ \n\t€ 🙂')
    part = chat.add("assistant", "half", status="partial")
    done = replace(part, content="half and whole", status="complete", x={"ids": [1, 2], "seed": 7})
    return [one, part, done, chat.add("user", "thanks"), chat.add("assistant", "você")]


def damages(data: bytes, position: int) -> list[bytes]:
    """The byte with one bit flipped, zeroed, and made a newline."""
    old = data[position]
    values = {old ^ (1 << position % 8), 0, 0x0A} - {old}
    return [data[:position] + bytes([value]) + data[position + 1 :] for value in sorted(values)]


def same_but_place(one: Message, other: Message) -> bool:
    return replace(one, parent=None) == replace(other, parent=None)


def test_an_undamaged_file_is_read_without_a_word() -> None:
    messages = sample()
    records, damage = read_records(b"".join(map(encode_record, messages)))
    assert [record.message for record in records] == messages
    assert all(record.intact for record in records)
    assert damage.warnings == ()


def test_every_byte_flipped() -> None:
    messages = sample()
    lines = [encode_record(message) for message in messages]
    data = b"".join(lines)
    ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
    for position in range(len(data)):
        hit = next(number for number, end in enumerate(ends) if position < end)
        newline_lost = position == ends[hit] - 1
        for damaged in damages(data, position):
            records, damage = read_records(damaged)
            intact = [record.message for record in records if record.intact]
            expected = messages if newline_lost else messages[:hit] + messages[hit + 1 :]
            assert intact == expected, f"byte {position}"
            assert damage.warnings, f"byte {position}"
            mended, rest = read_records(damage.mended)
            assert rest.warnings == (), f"byte {position}"
            assert [one.message for one in mended] == [one.message for one in records], f"byte {position}"


def test_every_cut() -> None:
    messages = sample()
    lines = [encode_record(message) for message in messages]
    data = b"".join(lines)
    whole = 0
    for size in range(len(data) + 1):
        while whole < len(lines) and size >= sum(map(len, lines[: whole + 1])) - 1:
            whole += 1  # without its newline a record is still whole
        for tail in (b"", b"\0", bytes(700)):
            records, damage = read_records(data[:size] + tail)
            assert [one.message for one in records if one.intact] == messages[:whole]
            at_an_end = size in {0, *(sum(map(len, lines[:count])) for count in range(6))}
            complete = at_an_end or size + 1 == sum(map(len, lines[:whole]))
            assert bool(damage.warnings) == (bool(tail) or not complete)


def reopen_and_go_on(
    store: TranscriptStore, chat_id: str, damaged: bytes, messages: list[Message], lost: int
) -> None:
    path = store.root / chat_id / "messages.jsonl"
    path.write_bytes(damaged)
    transcript = store.open(chat_id)
    assert transcript.warnings
    assert path.read_bytes() == damaged, "looking alone changes nothing"
    found = {message.id: message for message in transcript.conversation}
    for number, message in enumerate(messages):
        if number != lost and message is not messages[1]:
            assert same_but_place(found[message.id], message)
    added = transcript.conversation.add("user", "going on")
    transcript.append(added)
    transcript.close()
    backups = [one.read_bytes() for one in path.parent.iterdir() if one.name.startswith("messages.jsonl.")]
    assert any(damaged.endswith(backup) for backup in backups), "what was taken away is kept aside"
    again = store.open(chat_id)
    assert again.warnings == []
    assert list(again.conversation)[-1] == added
    assert {one.id for one in again.conversation} == {*found, added.id}
    again.close()
    for one in path.parent.iterdir():
        if one.name.startswith("messages.jsonl."):
            one.unlink()


def all_ways(store: TranscriptStore, step: int) -> None:
    messages = sample()
    transcript = store.create(model="toy")
    for message in messages:
        transcript.append(message)
    transcript.close()
    data = (transcript.folder / "messages.jsonl").read_bytes()
    lines = data.splitlines(keepends=True)
    for position in range(0, len(data), step):
        hit = data[:position].count(b"\n")
        if hit == 2:
            continue  # its checkpoint, which is intact, takes its place: test_every_byte_flipped covers it
        for damaged in damages(data, position):
            reopen_and_go_on(store, transcript.id, damaged, messages, hit)
    whole = len(b"".join(lines[:4]))
    for size in range(whole + 1, len(data) - 1, step):
        reopen_and_go_on(store, transcript.id, data[:size], messages, 4)
        reopen_and_go_on(store, transcript.id, data[:size] + bytes(5), messages, 4)


def test_a_damaged_chat_is_mended_before_it_goes_on(tmp_path: Path, quick: FileSystem) -> None:
    all_ways(TranscriptStore(tmp_path, quick), step=23)


@pytest.mark.slow
def test_a_chat_with_any_byte_damaged_is_mended_before_it_goes_on(tmp_path: Path, quick: FileSystem) -> None:
    all_ways(TranscriptStore(tmp_path, quick), step=1)


def test_a_torn_end_is_copied_aside_and_cut_off(tmp_path: Path) -> None:
    store = TranscriptStore(tmp_path)
    transcript = store.create(model="toy")
    transcript.append(transcript.conversation.add("user", "one"))
    transcript.close()
    path = transcript.folder / "messages.jsonl"
    sound = path.read_bytes()
    path.write_bytes(sound + b'{"role":"assistant","conte')
    again = store.open(transcript.id)
    again.append(again.conversation.add("assistant", "uno"))
    (aside,) = transcript.folder.glob("messages.jsonl.torn-*")
    assert aside.read_bytes() == b'{"role":"assistant","conte'
    assert path.read_bytes().startswith(sound)
    assert len(path.read_bytes().splitlines()) == 2


def test_a_child_of_an_unreadable_message_stays_in_the_conversation() -> None:
    messages = sample()
    lines = [encode_record(message) for message in messages]
    lines[3] = b"rubbish\n"
    records, _ = read_records(b"".join(lines))
    path = build_conversation("c", "", records).path()
    assert [message.content for message in path] == [messages[0].content, "half and whole", "você"]


def test_an_intact_record_is_preferred_to_a_changed_one() -> None:
    one, part, done, *_ = sample()
    changed = encode_record(done).replace(b"whole", b"whale")
    records, damage = read_records(encode_record(one) + encode_record(part) + changed)
    assert build_conversation("c", "", records).path()[-1].content == "half"
    assert "changed" in damage.warnings[0]
    records, _ = read_records(encode_record(one) + changed)
    assert build_conversation("c", "", records).path()[-1].content == "half and whale"


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"role":"user","content":' + b"[" * 200_000,
        b"9" * 10_000,
        b'{"role":"user","content":"x","x":[]}',
        b'{"role":"tool","content":"x"}',
        b'{"role":["user"],"content":"x"}',
        b'{"role":"user","content":null}',
        b"\xff\xfe\x00\x00",
    ],
)
def test_hostile_lines_are_passed_over(line: bytes) -> None:
    good = encode_record(sample()[0])
    records, damage = read_records(good + line + b"\n" + good)
    assert len(records) == 2
    assert len(damage.warnings) == 1
