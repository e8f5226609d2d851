"""How many threads a backend starts: cores that this process has, not all that there are."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from llama_core import cores as system_cores
from llama_core import memory as system_memory
from llama_core.cores import usable_cores


@pytest.fixture(autouse=True)
def sixteen_threads_on_eight_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(system_memory, "ROOT", tmp_path)


def test_two_threads_of_a_core_count_once() -> None:
    assert usable_cores() == 8


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_cores_that_are_forbidden_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 8


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "1000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu.max": "half a file"}, 8),
        ({"cpu.max": "9 0"}, 8),
    ],
)
def test_a_containers_share_of_time(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert usable_cores() == cores


def test_the_share_of_an_inner_group_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user/shell\n")
    inner = tmp_path / "sys/fs/cgroup/user"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("400000 100000\n")
    assert system_cores.usable_cores() == 4
