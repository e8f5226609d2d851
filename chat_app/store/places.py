"""Whether a file can be written where it is wanted: asked before the work whose result it is to hold."""

from __future__ import annotations

import tempfile
from pathlib import Path


def why_unwritable(path: Path) -> str | None:
    """Why results cannot be written to `path`, None where they can; found out by trying, without a trace."""
    try:
        if not path.exists():
            if not path.parent.is_dir():
                return f"there is no folder {path.parent} to write the results to"
            # Not the file itself: to take it away again could take what another program has put into it.
            tempfile.TemporaryFile(dir=path.parent).close()
        elif path.is_file():
            path.open("ab").close()  # asking for permission says yes on a read-only disk, and to root
        else:
            return f"{path} is no ordinary file; the results need one"
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return None
