"""JSON from outside is refused in time that grows with its length, no faster."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from llama_core.errors import ModelFormatError
from llama_core.loaders.json_files import parse_object


def test_a_duplicate_at_the_end_of_many_keys_is_found_at_once() -> None:
    pairs = [f"{json.dumps(str(i))}: 0" for i in range(40_000)]
    text = "{" + ", ".join([*pairs, pairs[-1]]) + "}"
    start = time.thread_time()
    with pytest.raises(ModelFormatError, match="key '39999' occurs twice"):
        parse_object(Path("m.json"), "header", text.encode())
    assert time.thread_time() - start < 2
