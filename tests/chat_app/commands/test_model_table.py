"""The table of models: whole elsewhere, and on a terminal what matters most in the width there is."""

from __future__ import annotations

import pytest

from chat_app.commands.model_table import HEAD, table_lines
from chat_app.models.facts import Facts
from chat_app.models.listing import Listed
from chat_app.models.outlook import Outlook

GIB = 1 << 30
MODELS = [
    Listed("small", 100 << 20, "downloaded", Facts("llama", "135M", "Q4_1"),
           Outlook("jit", "", GIB // 8, 8 * GIB, (200.0, 300.0), (0.25, 0.4))),
    Listed("a-model-of-a-longer-name", 12000 << 20, "can be fetched: answers from texts (Apache-2.0)",
           Facts("", "", "Q4_K_M"),
           Outlook("numpy", "it has experts", 40 * GIB, 8 * GIB, (1.0, 2.0), (90.0, 150.0))),
    Listed("strange\x1b[31m", 5 << 20, "Jan", Facts("mamba", "", "Q8_0"), Outlook(why="is 'mamba'")),
]  # fmt: skip


def test_all_of_it_where_nothing_limits_it() -> None:
    head, *lines = table_lines(MODELS, None)
    assert head.split() == " ".join(name for name in HEAD if name != "PATH").split()
    assert "compiled" in lines[0]
    assert "200-300 tok/s" in lines[0]
    assert "0.25-0.40 s" in lines[0]
    assert "too large" in lines[1]
    assert "40.0 GiB" in lines[1]
    assert "does not run" in lines[2]
    assert "\x1b" not in lines[2]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_it_fits(width: int) -> None:
    lines = table_lines(MODELS, width)
    assert all(len(line) <= width for line in lines)
    assert [line[:5] for line in lines] == ["MODEL", "small", "a-mod", "stran"]
    if width >= 60:
        assert "200-300 tok/s" in lines[1], "last to be left out"
