"""`llama-chat serve`, before it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_other_machines_need_a_key_or_a_word(main: Callable[..., Any]) -> None:
    ran = main("serve", "--host", "0.0.0.0", "-m", "/nowhere")
    assert ran.code == 2
    assert "--api-key KEY" in ran.err
    assert main("serve", "--no-auth", "--api-key", "x", "-m", "/nowhere").code == 2
    assert main("serve", "--host", "0.0.0.0", "--no-auth", "-m", "/nowhere").code == 1  # no such model
