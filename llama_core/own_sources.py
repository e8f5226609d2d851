"""What this program's own code is: what was made by other code, machine code or numbers, is not believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


def sources_digest(folder: Path = PACKAGE) -> str:
    """SHA-256 in hex of the Python files below `folder`, as they are now; by default of all of llama_core."""
    digest = hashlib.sha256()
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.relative_to(folder).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
