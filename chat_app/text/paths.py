"""A path as a person writes it: the one place where a `~` is taken for a home."""

from __future__ import annotations

from pathlib import Path


def home_folder() -> Path:
    """The user's home; the root where the system knows none (a container's user without a name or HOME)."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(Path().absolute().anchor)


def read_path(text: str) -> Path:
    """The path, its `~` or `~NAME` expanded. Raises ValueError with a phrase where that home is not known."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"the home that {text!r} begins with is not known") from None
