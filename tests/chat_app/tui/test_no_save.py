"""`--no-save`: not one word that was typed or answered is written anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
SECRET = "xyzzy-plugh"


def files_with(folder: Path, words: str) -> list[Path]:
    """Every file below `folder` whose bytes or name hold `words`."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in found if words in path.name or words.encode() in path.read_bytes()]


@pytest.mark.parametrize("save", [True, False])
async def test_nothing_that_is_typed_is_written(
    make_app: MakeApp,
    engine: FakeEngine,
    drive: Any,
    save: bool,
    tmp_path: Path,
    llama_chat_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With saving, the same words are found: the test would see them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    async with make_app(save=save).run_test() as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say(f"sent {SECRET}")
        engine.script = lambda turns: ["some ", RuntimeError(f"boom {SECRET}")]
        user.chat.prompt.insert(f"failing {SECRET}")
        await user.press("enter")
        await user.until(lambda: user.words()[-1] == "some ")
        user.chat.prompt.insert(f"typed {SECRET}")
        await user.chat.composer._keep_draft()
        user.app.leave()
    assert bool(files_with(llama_chat_home, SECRET)) == save
    assert files_with(tmp_path / "tmp", SECRET) == []
