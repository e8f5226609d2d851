"""The names of a GGUF model's files, `NAME-00001-of-0000N.gguf` where it is cut into several, and what they
tell of its size and type.

Apart from `gguf_split.py`, which reads such files, because the app asks at each start and NumPy would be most
of what that takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)

# A type's name, as it stands in a file's.
TYPE = r"IQ[1-4]_(?:XXS|XS|NL|S|M)|T?Q[1-8]_(?:K_(?:XL|[SML])|[01K])|BF16|F16|F32|MXFP4"
TYPE_IN_NAME = re.compile(rf"(?<![A-Za-z0-9])({TYPE})(?![A-Za-z0-9])", re.IGNORECASE)
SIZE_IN_NAME = re.compile(
    r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?(?:x\d+(?:\.\d+)?)?[BM])(?![A-Za-z0-9])", re.IGNORECASE
)


def shard_name(stem: str, number: int, count: int) -> str:
    """The name of part `number` (from 1) of `count`."""
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def model_stem(name: str) -> str:
    """A model's name without what tells its format and its parts: "a-00001-of-00002.gguf" -> "a"."""
    found = SHARD_NAME.fullmatch(name)
    return found["stem"] if found else name.removesuffix(".gguf")


def files_of_model(name: str) -> tuple[str, ...]:
    """The names of all files of the model that the file `name` (a path may stand before it) belongs to, the
    first one first; the name alone where it is no part of a model."""
    found = SHARD_NAME.fullmatch(name)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]):
        return (name,)
    count = int(found["count"])
    return tuple(shard_name(found["stem"], number, count) for number in range(1, count + 1))


def group_by_model(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The files of each model of which a file is among `names`; those that are missing are listed too."""
    return list(dict.fromkeys(files_of_model(name) for name in sorted(names)))


def find_in(pattern: re.Pattern[str], texts: Iterable[str]) -> str:
    """The first match in any of `texts`, in capitals; empty where there is none."""
    found = (pattern.search(text) for text in texts)
    return next((match[1].upper() for match in found if match), "")
