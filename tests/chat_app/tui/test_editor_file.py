"""The file for an external editor: private, gone afterwards, and in memory with `--no-save`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.tui import editor_file as module
from chat_app.tui.editor_file import editor_file

MakeApp = Callable[..., Any]
SECRET = "xyzzy-plugh"


def test_the_editors_file_is_private_and_goes_with_what_lies_beside_it() -> None:
    with editor_file("words", in_memory=False) as path:
        assert path.read_text() == "words"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.with_name(".prompt.md.swp").write_text("a swap file")
        folder = path.parent
    assert not folder.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where memory is a folder")
def test_without_saving_it_lies_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if not module._is_memory(module.MEMORY) or not os.access(module.MEMORY, os.W_OK):
        pytest.skip("there is no /dev/shm here")
    with editor_file("words", in_memory=True) as path:
        assert path.is_relative_to(module.MEMORY)
    monkeypatch.setattr(module, "MEMORY", str(tmp_path))
    if module._is_memory(str(tmp_path)):
        pytest.skip("the tests' own folder is in memory")
    with pytest.raises(OSError, match="no folder in memory"), editor_file("words", in_memory=True):
        pass
