"""Copying, and saying truthfully what happened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

TIMEOUT_S = 2.0


def native_command() -> list[str] | None:
    """The program that sets this desktop's clipboard; None over SSH, where it would set the wrong one."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return None
    candidates: list[list[str]] = []
    if sys.platform == "darwin":
        candidates.append(["pbcopy"])
    elif sys.platform == "win32":
        candidates.append(["clip"])
    else:
        if os.environ.get("WAYLAND_DISPLAY"):
            candidates.append(["wl-copy"])
        if os.environ.get("DISPLAY"):
            candidates += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    return next((command for command in candidates if shutil.which(command[0])), None)


def copy_native(text: str) -> bool:
    """Whether the desktop's own program took the text."""
    command = native_command()
    if command is None:
        return False
    try:
        done = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def copy(text: str, to_terminal: Callable[[str], None]) -> str:
    """Copy `text`; returns the sentence to show. `to_terminal` sends OSC 52, which no terminal answers: then
    the sentence says on what it depends."""
    if not text:
        return "There is nothing to copy."
    to_terminal(text)
    size = f"{len(text):,} character{'s' if len(text) != 1 else ''}"
    if copy_native(text):
        return f"Copied {size}."
    return f"Copied {size}, if the terminal allows it."
