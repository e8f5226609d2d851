"""What is kept comes back bit for bit; what is damaged, foreign or of another chat does not."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

from chat_app.kv_files import segments, writing
from llama_core.backends.numpy.model import Llama
from llama_core.events import Timings
from tests.chat_app.kv_files.conftest import BACKENDS, Chatting, Start, words


def talk(one: Chatting, turns: int = 3, chat: str = "chat") -> list[int]:
    """A chat of some turns, all of it on disk."""
    ids: list[int] = []
    for turn in range(turns):
        ids = one.reply([*ids, *words(turn, 70)], chat=chat)
    one.keeper.close()
    return ids


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chat_goes_on_as_if_the_program_had_not_ended(start: Start, backend: str) -> None:
    first = start(backend)
    ids = [*talk(first), *words(9, 5)]
    expected = first.logits(ids)
    second = start(backend)
    restored = second.keeper.restore("chat", ids)
    assert restored is not None
    assert restored.n == len(ids) - 6, "the reply's last token was drawn, not computed"
    assert restored.saved_s > 0
    assert second.engine.cached_ids == tuple(ids[: restored.n])
    assert second.logits(ids) == expected
    assert second.keeper.restore("chat", ids) is None, "it is there already"


def test_the_bits_are_those_of_a_fresh_computation(start: Start) -> None:
    ids = [*talk(start("jit")), *words(9, 5)]
    second = start("jit")
    assert second.keeper.restore("chat", ids) is not None
    logits = second.logits(ids)
    second.engine.reset()
    assert second.engine.cached_ids == ()
    assert second.logits(ids) == logits


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_reply_adds_what_is_new(start: Start, backend: str) -> None:
    one = start(backend)
    ids: list[int] = []
    sizes = []
    for turn in range(3):
        ids = one.reply([*ids, *words(turn, 64)])
        one.keeper.close()
        sizes.append(one.files()[0].stat().st_size)
    assert sizes[2] - sizes[1] < 1.5 * sizes[0], "what was there is not written again"
    assert [len(x.ids) for x in scanned(one)] == [64 + 11, 64 + 12, 64 + 12]


def scanned(one: Chatting) -> list[segments.Segment]:
    """The segments of its only file."""
    (path,) = one.files()
    with path.open("rb", buffering=0) as file:
        key = file.read(len(segments.MAGIC) + segments.KEY_BYTES)[-segments.KEY_BYTES :]
        return segments.scan(file, key)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_branch_takes_the_place_of_the_one_before(start: Start, backend: str) -> None:
    one = start(backend)
    ids = talk(one)
    branch = one.reply([*ids[:82], *words(50, 90)])
    one.keeper.close()
    assert sum(x.stop - x.start for x in scanned(one)) == len(branch) - 1
    expected = one.logits([*branch, 7])
    second = start(backend)
    assert second.keeper.restore("chat", [*branch, 7]).n == len(branch) - 1  # type: ignore[union-attr]
    assert second.logits([*branch, 7]) == expected
    # Of the old branch there is what both share.
    third = start(backend)
    third.keeper.restore("chat", ids)
    assert len(third.engine.cached_ids) == 82


def test_a_file_of_many_segments_is_written_anew(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST_SEGMENTS", 2)
    one = start()
    ids = talk(one, 3)
    assert [x.stop for x in scanned(one)] == [len(ids) - 1]


def test_a_chat_takes_the_system_prompt_of_another(start: Start) -> None:
    one = start("jit")
    system = words(1, 100)
    one.reply([*system, *words(2, 20)], chat="first")
    one.keeper.close()
    second = start("jit")
    restored = second.keeper.restore("second", [*system, *words(3, 20)])
    assert restored is not None
    assert restored.n == 100


def test_where_bits_depend_on_the_passes_a_chat_takes_its_own_alone(start: Start) -> None:
    one = start("numpy")
    ids = talk(one)
    second = start("numpy")
    assert second.keeper.restore("other", ids) is None
    # What was computed in other passes is no part of what is on disk: it is written anew.
    second.reply(ids[:200])
    second.keeper.close()
    expected = second.logits([*ids[:200], 7])
    third = start("numpy")
    assert third.keeper.restore("chat", [*ids[:200], 7]) is not None
    assert third.logits([*ids[:200], 7]) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "part", ["magic", "key", "first head", "ids", "first body", "last body", "cut", "empty"]
)
def test_a_damaged_file_is_as_if_there_were_none(start: Start, backend: str, part: str) -> None:
    one = start(backend)
    ids = [*talk(one), *words(9, 5)]
    expected = one.logits(ids)
    found, path = scanned(one), one.files()[0]
    data = bytearray(path.read_bytes())
    head = len(segments.MAGIC) + segments.KEY_BYTES
    at = {
        "magic": 3,
        "key": head - 1,
        "first head": head + 5,
        "ids": found[0].body - 4 * len(found[0].sums) - 3,
        "first body": found[0].body + 4099,
        "last body": found[2].body + 777,
    }
    if part in at:
        data[at[part]] ^= 0x55
    else:
        del data[found[2].end - 10 if part == "cut" else 0 :]
    path.write_bytes(data)
    second = start(backend)
    restored = second.keeper.restore("chat", ids)
    if part in ("last body", "cut"):
        assert restored is not None
        assert restored.n in (found[1].stop, found[1].stop // 64 * 64)
    else:
        assert restored is None
    assert path.exists() == ("body" not in part)
    if backend == "jit" or restored is not None:  # else in other passes
        logits = second.logits(ids)
        assert logits == expected if backend == "jit" else all(x & 0x7F800000 != 0x7F800000 for x in logits)
    # The next reply is kept again.
    longer = second.reply(ids)
    second.keeper.close()
    third = start(backend)
    assert third.keeper.restore("chat", longer).n == len(longer) - 1  # type: ignore[union-attr]


@pytest.mark.parametrize("backend", BACKENDS)
def test_damage_that_is_no_number_spreads_to_nothing(start: Start, backend: str) -> None:
    one = start(backend)
    ids = [*talk(one), *words(9, 5)]
    last, path = scanned(one)[-1], one.files()[0]
    data = bytearray(path.read_bytes())
    data[last.body : last.end] = b"\xff" * (last.end - last.body)
    path.write_bytes(data)
    second = start(backend)
    assert second.keeper.restore("chat", ids) is not None
    few = ids[: last.start + 40]  # what was damaged behind them is not computed anew
    assert all(bits & 0x7F800000 != 0x7F800000 for bits in second.logits(few)), "all are finite"


def test_damage_leaves_what_the_context_held(start: Start) -> None:
    one = start("jit")
    ids = [*talk(one), *words(9, 5)]
    expected = one.logits(ids)
    last, path = scanned(one)[-1], one.files()[0]
    data = bytearray(path.read_bytes())
    data[last.body + 5] ^= 1
    path.write_bytes(data)
    second = start("jit")
    second.logits(ids[: last.start + 3])
    assert second.keeper.restore("chat", ids) is None
    assert len(second.engine.cached_ids) == last.start // 64 * 64
    assert second.logits(ids) == expected


def test_a_cache_that_was_reset_is_computed(start: Start) -> None:
    one = start()
    ids = talk(one)
    one.keeper.pass_over()
    one.engine.reset()
    assert one.keeper.restore("chat", ids) is None
    longer = one.reply([*ids, *words(7, 5)])
    one.keeper.close()
    one.engine.reset()
    assert one.keeper.restore("chat", longer) is not None


def test_another_model_settings_or_code_is_foreign(
    start: Start, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = talk(start())
    with monkeypatch.context() as patch:
        patch.setattr(Llama, "arithmetic", "sums from the right")
        assert start().keeper.restore("chat", ids) is None
    assert start().keeper.restore("chat", ids) is not None
    with monkeypatch.context() as patch:
        patch.setattr("chat_app.kv_files.model_key.sources_digest", lambda: "newer")
        assert start().keeper.restore("chat", ids) is None
    loaded = start()
    status = tiny_model.stat()
    try:
        os.utime(tiny_model, (1, 1))
        assert loaded.keeper.restore("chat", ids) is None, "the file is another one than was loaded"
        loaded.reply(ids)
        loaded.keeper.close()
    finally:
        os.utime(tiny_model, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sum(len(x.ids) for x in scanned(loaded)) == len(ids) - 1, "nothing was added"


class Slow:
    """A disk whose first write of a segment's piece waits, when it is done, until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        write = segments._write_all

        def wait(file: io.FileIO, at: int, data: bytes) -> None:
            write(file, at, data)
            if at and not self.begun.is_set():  # the first bytes are no piece
                self.begun.set()
                assert self.go_on.wait(20)

        monkeypatch.setattr(segments, "_write_all", wait)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_context_goes_on_while_it_is_written(
    start: Start, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, one = Slow(monkeypatch), start(backend)
    ids = one.reply(words(0, 80))
    assert disk.begun.wait(20)
    longer = one.reply([*ids, *words(1, 30)], keep=False)
    disk.go_on.set()
    one.keeper.close()
    expected = one.logits([*longer, 7])
    second = start(backend)
    assert second.keeper.restore("chat", longer).n == len(ids) - 1  # type: ignore[union-attr]
    if backend == "jit":
        assert second.logits([*longer, 7]) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_given_up_while_it_is_written_is_not_kept(
    start: Start, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, one = Slow(monkeypatch), start(backend)
    one.reply(words(0, 80))
    assert disk.begun.wait(20)
    other = one.reply(words(1, 80), keep=False)
    disk.go_on.set()
    one.keeper.close()
    assert scanned(one) == []
    one.keeper.save("chat", Timings(0, 20, 0.1, 1, 0.1, 0.1))
    one.keeper.close()
    assert start(backend).keeper.restore("chat", other).n == len(other) - 1  # type: ignore[union-attr]


def test_a_reply_never_waits_for_the_disk(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, one = Slow(monkeypatch), start()
    ids = one.reply(words(0, 80))
    assert disk.begun.wait(20)
    for turn in range(3):
        ids = one.reply([*ids, *words(turn, 40)])  # would hang
    disk.go_on.set()
    one.keeper.close()
    assert start().keeper.restore("chat", ids).n == len(ids) - 1  # type: ignore[union-attr]


def test_two_windows_on_one_chat(start: Start) -> None:
    first, second = start("jit"), start("jit")
    ids = talk(first)
    other = [*words(5, 60), *words(6, 60)]
    threads = [
        threading.Thread(target=lambda one, said: [one.reply(said) for _ in range(5)], args=pair)
        for pair in ((first, ids), (second, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.keeper.close()
    second.keeper.close()
    third = start("jit")
    assert third.keeper.restore("chat", ids) or third.keeper.restore("chat", other)
    assert third.logits([*ids, 3]) == first.logits([*ids, 3])


def test_what_is_full_keeps_nothing_and_breaks_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = start()
    ids = one.reply(words(0, 80))
    one.keeper.close()
    write, left = segments._write_all, [5]

    def full(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(segments, "_write_all", full)
        longer = one.reply([*ids, *words(1, 80)])
        one.keeper.close()
    assert left[0] < 0
    assert [x.stop for x in scanned(one)] == [len(ids) - 1], "what was there is still there"
    assert one.files()[0].stat().st_size == scanned(one)[-1].end
    monkeypatch.setattr("chat_app.kv_files.folder.FREE_BYTES", 1 << 60)
    one.reply([*longer, *words(2, 8)])
    one.keeper.close()
    assert len(scanned(one)) == 1, "a disk that is nearly full is left alone"


def test_the_least_recently_used_go_first(start: Start) -> None:
    one = start()
    talk(one, chat="a")
    size = one.files()[0].stat().st_size
    one.close()
    two = start(limit=int(2.5 * size))
    ids = {chat: talk(two, chat=chat) for chat in ("a", "b")}
    now = time.time()
    for age, path in enumerate(two.files()):
        os.utime(path, (now - 100 + age, now - 100 + age))
    two.engine.reset()
    assert two.keeper.restore("a", ids["a"]) is not None  # used again
    talk(two, chat="c")
    assert [path.name[0] for path in two.files()] == ["a", "c"]
    small = start(limit=size // 2)
    talk(small, chat="d")
    assert [path.name[0] for path in small.files()] == ["d"], "as much as fits"
    assert small.files()[0].stat().st_size <= size // 2


def test_what_others_could_have_written_is_not_read(start: Start) -> None:
    one = start()
    ids = talk(one)
    path = one.files()[0]
    path.chmod(0o666)
    other = start()
    assert other.keeper.restore("chat", ids) is None
    other.reply([*ids, *words(4, 40)])
    other.keeper.close()
    assert sum(len(x.ids) for x in scanned(one)) == len(ids) - 1, "nor is anything written to it"
    path.chmod(0o600)
    one.folder.chmod(0o777)
    assert start().keeper.restore("chat", ids) is None
    other = start()
    other.reply([*ids, *words(4, 40)])
    other.keeper.close()
    one.folder.chmod(0o700)
    assert sum(len(x.ids) for x in scanned(one)) == len(ids) - 1, "nor is anything written there"
    away = path.rename(path.with_name("elsewhere"))
    path.symlink_to(away)
    assert start().keeper.restore("chat", ids) is None
    path.unlink()
    away.rename(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert start().keeper.restore("chat", ids) is not None
