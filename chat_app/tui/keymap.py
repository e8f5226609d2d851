"""What is wrong with the keys that the user chose: a name that no key has, or a key that does two things."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from textual.binding import Binding, BindingType
from textual.keys import Keys

from chat_app.config.key_names import long_key
from chat_app.text.errors import nearest

MODIFIERS = frozenset({"ctrl", "shift", "alt", "super", "hyper", "meta"})
KNOWN = frozenset(key.value.rpartition("+")[2].strip("<>") for key in Keys)


def is_key(name: str) -> bool:
    """Whether Textual knows a key of this name: `ctrl+t`, `f2`, `slash`, `é`."""
    *modifiers, last = name.split("+")
    if not MODIFIERS.issuperset(modifiers) or not last:
        return False
    if len(last) == 1 or last in KNOWN:
        return True
    try:
        unicodedata.lookup(last.replace("_", " "))
    except KeyError:
        return last in ("slash", "backslash", "at", "minus", "plus", "underscore", "space")
    return True


def keymap_faults(
    keymap: Mapping[str, str], together: Sequence[Iterable[BindingType]], ids: Iterable[str]
) -> list[str]:
    """Sentences. together: bindings that are in force at once. ids: all bindings there are, by which a fault
    of the name is told by someone else."""
    faults: list[str] = []
    known = set(ids)
    for name, keys in keymap.items():
        for key in keys.split(","):
            if name in known and not is_key(key.strip()):
                hint = nearest(key.strip(), KNOWN)
                faults.append(f"[keymap] {name}: there is no key {key.strip()!r}.{hint}")
    taken: dict[str, str] = {}
    bindings = [one for group in together for one in group if isinstance(one, Binding) and one.id]
    for binding in bindings:
        for key in (keymap.get(binding.id or "") or binding.key).split(","):
            other = taken.setdefault(key.strip(), binding.id or "")
            if other != binding.id and (other in keymap or binding.id in keymap):
                faults.append(
                    f"[keymap] {long_key(key)} is the key of {other} and of {binding.id}: give one another."
                )
    return faults
