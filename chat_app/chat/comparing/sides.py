"""What `/compare` sets against each other, as typed and as settings: models, presets, system prompts,
parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from chat_app.chat.reply import THIS_REPLY
from chat_app.config.endpoints import model_label
from chat_app.config.presets import preset_names, read_preset, with_preset, without_presets
from chat_app.config.settings import PARAMETERS, Settings, set_parameter, with_advice
from chat_app.config.sources import load_settings
from chat_app.engines.base import EngineInfo
from chat_app.text.errors import nearest
from chat_app.text.sanitize import clean_line

Kind = Literal["model", "preset", "system", "set"]
USAGE = "model NAME | preset NAME | system TEXT | PARAMETER VALUE [vs ...]"
AS_IT_IS = "as it is now"
LABEL_LENGTH = 40
KINDS: dict[str, str] = {
    "model": "answered by another model",
    "preset": "with what a preset says",
    "system": "with another system prompt",
}
_VS = re.compile(r"\s+vs\s+", re.IGNORECASE)
# A system prompt may hold the word: it ends only where another side can begin.
_VS_SIDE = re.compile(rf"\s+vs\s+(?=(?:{'|'.join([*KINDS, *PARAMETERS])})\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wish:
    """A side as it was typed: a kind, and its name, its text, or pairs of a parameter and its value."""

    kind: Kind
    text: str = ""
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. model: the name of another model than the chat's, empty where it is that one. guest:
    what is other about it than the chat's own, empty for the chat as it is."""

    label: str
    settings: Settings
    model: str = ""
    guest: str = ""


def read_sides(text: str) -> tuple[Wish, ...]:
    """One side or two. Raises ValueError with a phrase."""
    parts = _split(text)
    if len(parts) > 2:
        raise ValueError("two sides can be compared")
    return tuple(_read_side(part.strip()) for part in parts)


def _split(text: str) -> list[str]:
    """The sides, apart."""
    between = _VS_SIDE if text.lower().startswith("system ") else _VS
    first, *rest = between.split(text, maxsplit=1)
    return [first, *(_split(rest[0]) if rest else ())]


def _read_side(text: str) -> Wish:
    word, _, rest = text.partition(" ")
    kind, rest = word.lower(), rest.strip()
    if kind in PARAMETERS:
        words = text.split()
        if len(words) % 2:
            raise ValueError(f"{words[-1]} wants a value")
        pairs = tuple(zip(map(str.lower, words[::2]), words[1::2], strict=True))
        for name, _ in pairs:
            if name not in PARAMETERS:
                raise ValueError(f"there is no parameter {name!r}.{nearest(name, PARAMETERS)}")
        return Wish("set", pairs=pairs)
    if kind in KINDS and not rest:
        raise ValueError(f"{kind} wants a {'text' if kind == 'system' else 'name'}")
    if kind == "model":
        return Wish("model", rest)
    if kind == "preset":
        return Wish("preset", rest)
    if kind == "system":
        return Wish("system", rest)
    if rest:
        known = [*KINDS, *PARAMETERS]
        raise ValueError(f"{word!r} is nothing to compare by.{nearest(kind, known)}")
    return Wish("model", word)


def complete_sides(engines: Sequence[tuple[str, str]], typed: str) -> list[tuple[str, str]]:
    """Whole arguments for what is typed so far. engines: (name, what it is) of those in config.toml."""
    last = _split(typed)[-1]
    begun = typed[: len(typed) - len(last)]
    kind, space, name = last.partition(" ")
    if not space:
        words = [*KINDS.items(), *((one, row.help) for one, row in PARAMETERS.items())]
        return [(f"{begun}{word} ", about) for word, about in words if word.startswith(kind.lower())]
    names = {"model": engines, "preset": [(one, "") for one in preset_names()]}.get(kind.lower(), [])
    return [(f"{begun}{kind} {one}", about) for one, about in names if one.startswith(name.lstrip())]


def sides_of(wishes: tuple[Wish, ...], settings: Settings, info: EngineInfo | None) -> tuple[Side, Side]:
    """The two sides; where one was typed, the other is the chat as it is. Both draw from the same seed. info:
    of the chat's model. Raises ValueError with a sentence."""
    found = [_side(wish, settings, info) for wish in wishes]
    one, other = (Side(AS_IT_IS, settings), *found)[-2:]
    for side in (one, other):
        if side.settings.ctx_size != settings.ctx_size:
            raise ValueError("num_ctx needs the model loaded anew, so it cannot be compared.")
    if (one.model, _told(one)) == (other.model, _told(other)):
        same = f"{one.label} and {other.label}." if len(found) > 1 else f"{other.label} is what the chat has."
        raise ValueError(f"Both sides are the same: {same}")
    return one, other


def _told(side: Side) -> tuple[object, ...]:
    """What a reply depends on, the model aside."""
    return side.settings.params, side.settings.system or ""


def _side(wish: Wish, settings: Settings, info: EngineInfo | None) -> Side:
    name = model_label(wish.text) if wish.kind == "model" else wish.text
    label = clean_line(f"{wish.kind} {name}", LABEL_LENGTH)
    if wish.kind == "model":
        own = (settings.model, info.name if info is not None else "")
        return Side(label, settings, "" if wish.text in own else wish.text, THIS_REPLY)
    if wish.kind == "system":
        return Side(label, replace(settings, system=wish.text), guest=label)
    if wish.kind == "set":
        for name, value in wish.pairs:
            settings = set_parameter(settings, name, value)
        label = ", ".join(" ".join(pair) for pair in wish.pairs)
        return Side(label, settings, guest=label)
    values = read_preset(wish.text)
    model = str(values.get("model", settings.model))
    base = without_presets(settings, load_settings())
    made = with_preset(base, wish.text, {key: value for key, value in values.items() if key != "model"})
    made = made if info is None else with_advice(made, info.advice)
    return Side(label, made, "" if model == settings.model else model, label)
