"""Programs of ours import ours, wherever the user happens to be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import llama_core
from llama_core.own_code import module_command, module_environment


def test_a_users_folder_is_no_place_to_import_from(tmp_path: Path) -> None:
    (tmp_path / "llama_core").mkdir()
    for name in ("llama_core/__init__.py", "os.py", "json.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')")
    done = subprocess.run(
        module_command("llama_core.own_code"),
        cwd=tmp_path,
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_leads_to_these_packages_first() -> None:
    first = module_environment()["PYTHONPATH"].split(os.pathsep)[0]
    assert Path(first) == Path(llama_core.__file__).parents[1]
