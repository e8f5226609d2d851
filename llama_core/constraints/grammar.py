"""What a reply must be, as a record: a JSON schema, a regular expression, a grammar. Without NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

GrammarKind = Literal["schema", "regex", "grammar"]
GRAMMAR_KINDS: tuple[GrammarKind, ...] = get_args(GrammarKind)


@dataclass(frozen=True, slots=True)
class Grammar:
    """`text` is a JSON schema ("schema"), a regular expression that the whole reply matches ("regex"), or a
    grammar in Lark's or llama.cpp's notation ("grammar")."""

    kind: GrammarKind
    text: str


# Any JSON object.
JSON_OBJECT = Grammar("schema", '{"type": "object"}')
