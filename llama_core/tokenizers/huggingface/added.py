"""Added tokens: those that a Hugging Face folder names beside the vocabulary. They are found whole in a text.

A folder names them in up to five places, the newest first: `added_tokens` of `tokenizer.json`,
`added_tokens_decoder` of `tokenizer_config.json`, `added_tokens.json`, and the roles (`eos_token`,
`additional_special_tokens`, ...) of `tokenizer_config.json` and `special_tokens_map.json`.
Source: `AddedToken` of `tokenizers`, and how transformers brings the places together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from llama_core.config import MAX_VOCAB
from llama_core.tokenizers.huggingface.steps import Malformed, field

# The roles of `tokenizer_config.json` and `special_tokens_map.json`.
ROLES = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("eot_token", "eom_token", "additional_special_tokens", "extra_special_tokens"),
)


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is looked for in the text before it is cut.

    id: None where the place gives none. special: of the template's text only. lstrip, rstrip: it swallows
    the white space before or behind it. single_word: it is none beside a letter. normalized: it is looked
    for in the normalized text, normalized itself.
    """

    content: str
    id: int | None = None
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


def token_id_of(value: object) -> int:
    """A token's id. Raises Malformed."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_VOCAB:
        raise Malformed(f"token id {str(value)[:40]}, expected 0 to {MAX_VOCAB - 1}")
    return value


def added_token(entry: object, token_id: int | None = None, *, special: bool = False) -> AddedToken:
    """A token as the files write it: its text, or an object with `content`. Raises Malformed."""
    if isinstance(entry, str):
        return AddedToken(entry, token_id, special)
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise Malformed("an added token is a text, or an object with content")
    special = field(entry, "special", bool, special)
    flags = {name: field(entry, name, bool, False) for name in ("lstrip", "rstrip", "single_word")}
    normalized = field(entry, "normalized", bool, not special)
    return AddedToken(entry["content"], token_id, special, normalized=normalized, **flags)


def tokens_of_role(value: object) -> list[AddedToken]:
    """The tokens of one of ROLES: none, one, a list, or an object of names and tokens. Raises Malformed."""
    if value is None:
        return []
    if isinstance(value, dict) and "content" not in value:
        value = list(value.values())
    entries = value if isinstance(value, list) else [value]
    return [replace(added_token(entry, special=True), special=True) for entry in entries]


def numbered(tokens: Iterable[AddedToken], texts: dict[int, str]) -> dict[int, AddedToken]:
    """The tokens by id, and `texts`, the vocabulary, completed with theirs.

    A text that the vocabulary has keeps its id; another gets the id that its place names, where that is free,
    or the next one. Of two tokens with the same text the later says how it is looked for, and it is special
    where one of them is.
    """
    ids = {text: i for i, text in texts.items()}
    found: dict[int, AddedToken] = {}
    for token in tokens:
        token_id = ids.get(token.content)
        if token_id is None:
            free = token.id is not None and token.id not in texts
            token_id = token.id if free and token.id is not None else max(texts, default=-1) + 1
        texts[token_id] = token.content
        ids[token.content] = token_id
        known = found.get(token_id)
        special = token.special or (known is not None and known.special)
        found[token_id] = replace(token, id=token_id, special=special)
    return found
