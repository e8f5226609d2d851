"""`faults.md` row 6: a download that ends anywhere leaves the whole verified file or none."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.models import catalogue as models
from chat_app.models.download.pull import DownloadCancelled, pull
from tests.support.luck import SEED

DRIVER = """
import sys
from chat_app.models import catalogue as models
from chat_app.models.download import pull as download
entry = models.CatalogueEntry(**eval(sys.argv[1]))
models.CATALOGUE = download.CATALOGUE = {entry.name: entry}
print(download.pull(entry.name))
"""


def test_two_processes_take_turns(index: Any, llama_chat_home: Path, fake: Any) -> None:
    command = [sys.executable, "-c", DRIVER, repr(dataclasses.asdict(fake.entry))]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert outputs[0] == outputs[1] == f"{llama_chat_home / 'cache' / 'models' / 'tiny.gguf'}\n"
    assert index.downloads == 1


def cut_after(n_lines: int | None) -> int:
    """pull("tiny") in a forked child that dies, as by kill -9, at the nth line run in the downloader.

    Returns the child's exit code, 9 when it died; without n_lines, the number of lines a whole pull runs.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame, event, argument):  # type: ignore[no-untyped-def]
            nonlocal count
            if "chat_app" not in frame.f_code.co_filename:  # the app, and these tests' part of it
                return None
            count += event == "line"
            if n_lines is not None and count >= n_lines:
                os._exit(9)
            return trace

        sys.settrace(trace)
        try:
            pull("tiny")
            sys.settrace(None)
            os.write(writing, b"%d" % count)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return int(answer) if n_lines is None else code


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_unverified_file_is_visible_in_100_cuts(
    without_pip: Any, visible: Callable[[], list[str]], fake: Any
) -> None:
    target = fake.entry.path
    n_lines = cut_after(None)
    assert target.read_bytes() == fake.model
    target.unlink()
    died = complete = 0
    for cut in range(100):
        code = cut_after(1 + cut * n_lines // 100)
        died += code == 9
        shown = [model.path for model in models.local_models()]
        if target.exists():
            assert target.read_bytes() == fake.model
            complete += 1
            target.unlink()
        else:
            assert shown == []
    assert died == 100
    assert complete >= 1  # the last cuts fall after the rename
    assert pull("tiny").read_bytes() == fake.model
    assert visible() == ["tiny.gguf"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_cancel_at_every_question_leaves_nothing(
    without_pip: Any, visible: Callable[[], list[str]], fake: Any
) -> None:
    for n in range(1, 1000):
        asked = 0

        def cancelled(n: int = n) -> bool:
            nonlocal asked
            asked += 1
            return asked >= n

        try:
            pull("tiny", cancelled=cancelled)
        except DownloadCancelled:
            assert visible() == []
        else:
            break
    assert n > 3
    assert fake.entry.path.read_bytes() == fake.model


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_100_kills_of_real_downloads(index: Any, visible: Callable[[], list[str]], fake: Any) -> None:
    """The same with pip itself, killed at random times; the seed is in the assertion's message."""
    times = random.Random(SEED)
    command = [sys.executable, "-c", DRIVER, repr(dataclasses.asdict(fake.entry))]
    target = fake.entry.path
    died = 0
    for cut in range(100):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(timeout=times.uniform(0.0, 1.0))
        except subprocess.TimeoutExpired:
            child.kill()
            died += 1
        child.wait()
        if target.exists():
            assert target.read_bytes() == fake.model, f"seed {SEED}, cut {cut}"
            target.unlink()
    assert died > 20, f"seed {SEED}"
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert visible() == ["tiny.gguf"]
