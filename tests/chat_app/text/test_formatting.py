"""Numbers as people read them."""

from __future__ import annotations

from chat_app.text.formatting import MIB, Transfer, memory, memory_of


def test_bytes_on_their_way() -> None:
    """What was there at the start is not counted as fast."""
    now = iter([0.0, 0.0, 2.0, 4.0, 5.0])
    transfer = Transfer(lambda: next(now))
    texts = [transfer.text(n * MIB, 100 * MIB) for n in (60, 60, 80, 100, 10)]
    assert texts == [
        "60 of 100 MiB",
        "60 of 100 MiB",
        "80 of 100 MiB · 10 MiB/s · 2 s left",
        "100 of 100 MiB · 10 MiB/s",
        "10 of 100 MiB",
    ]


def test_memory_beside_the_whole() -> None:
    assert [memory(n * MIB) for n in (0, 3.25, 274, 1023, 1024, 24_106)] == [
        *("0 MiB", "3.2 MiB", "274 MiB", "1,023 MiB", "1.0 GiB", "23.5 GiB")
    ]
    assert memory_of(274 * MIB, 24_106 * MIB) == "274 MiB of 23.5 GiB"
    assert memory_of(4_596 * MIB, 24_106 * MIB) == "4.5 of 23.5 GiB"
    assert memory_of(99 * MIB, 200 * MIB) == "99 of 200 MiB"
