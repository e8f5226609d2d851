"""This program's own code: run in processes of its own, and told from what other code made.

What other sources made, machine code or numbers, is not believed: a digest of them is part of its key.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs `module` as a program. Without the folder that the user happens to be in
    among the places to import from: a `random.py` there would take the place of Python's."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """The environment for it, in which it finds these very packages."""
    root = str(PACKAGE.resolve().parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def sources_digest(folder: Path = PACKAGE) -> str:
    """SHA-256 in hex of the Python files below `folder`, as they are now; by default of all of llama_core."""
    digest = hashlib.sha256()
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.relative_to(folder).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
