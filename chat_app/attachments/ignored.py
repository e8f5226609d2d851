"""Which files of a folder git would leave out, by the patterns of gitignore(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llama_core.ordinary_files import read_ordinary

MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line: what it matches, a path below `base`; for folders alone; or (`keeps`) taken back."""

    base: Path
    pattern: re.Pattern[str]
    folders_only: bool
    keeps: bool


class Ignored:
    """The rules of every .gitignore from the repository's root down; the last that fits decides."""

    def __init__(self, rules: Iterable[_Rule] = ()) -> None:
        self._rules = tuple(rules)

    @classmethod
    def above(cls, folder: Path) -> Ignored:
        """The rules that hold in `folder`, its own .gitignore apart: those of the folders above it, up to the
        one that holds .git; none where there is no such folder."""
        line = [folder, *folder.parents]
        root = next((at for at, one in enumerate(line) if (one / ".git").exists()), None)
        found = cls()
        for one in reversed(line[1 : root + 1] if root is not None else []):
            found = found.within(one)
        return found

    def within(self, folder: Path) -> Ignored:
        """These rules and those of the folder's own .gitignore. One that cannot be read counts as none."""
        try:
            text = read_ordinary(folder / ".gitignore", MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            return self
        rules = (_rule(folder, line) for line in text.splitlines())
        return Ignored((*self._rules, *(rule for rule in rules if rule is not None)))

    def leaves_out(self, path: Path, *, is_folder: bool) -> bool:
        """Whether git would not look at this path, those of its folders aside."""
        for rule in reversed(self._rules):
            if rule.folders_only and not is_folder:
                continue
            if rule.pattern.fullmatch(path.relative_to(rule.base).as_posix()):
                return not rule.keeps
        return False


def _rule(base: Path, line: str) -> _Rule | None:
    line = line.rstrip()
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    glob = line[keeps:].removeprefix("\\")
    folders_only = glob.endswith("/")
    glob = glob.rstrip("/")
    anchored = "/" in glob
    try:
        pattern = re.compile(("" if anchored else "(?:.*/)?") + _expression(glob.lstrip("/")))
    except re.error:
        return None
    return _Rule(base, pattern, folders_only, keeps)


def _expression(glob: str) -> str:
    """A glob as a regular expression: `*` and `?` do not cross a slash, `**` does."""
    parts: list[str] = []
    for piece in re.findall(r"\*\*/|/\*\*$|\*+|\?|\[!?[^\]]+\]|\\.|.", glob):
        if piece == "**/":
            parts.append("(?:.*/)?")
        elif piece == "/**":
            parts.append("/.*")
        elif piece.startswith("*"):
            parts.append("[^/]*")
        elif piece == "?":
            parts.append("[^/]")
        elif piece.startswith("[") and len(piece) > 1:
            parts.append(piece.replace("[!", "[^", 1))
        else:
            parts.append(re.escape(piece[-1]))
    return "".join(parts)
