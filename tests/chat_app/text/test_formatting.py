"""Numbers as people read them."""

from __future__ import annotations

from chat_app.text.formatting import MIB, Transfer


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
