"""What lies beside `tokenizer.json`: configurations that name the roles of tokens and, newer, the chat
template as its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.tokenizers.huggingface.added import (
    ROLES,
    AddedToken,
    added_token,
    token_id_of,
    tokens_of_role,
)
from llama_core.tokenizers.huggingface.steps import Malformed
from llama_core.tokenizers.huggingface.tokenizer_json import Roles

MAX_TEMPLATE_BYTES = 4_000_000
END_ROLES = ("eos_token", "eot_token", "eom_token")


def read_folder(folder: Path, read_json: Callable[[Path], Any]) -> tuple[Roles, str | None]:
    """(the roles of tokens, the chat template or None).

    `tokenizer_config.json` names the roles of tokens; what it leaves out, `special_tokens_map.json` has in
    older folders. Tokens that `tokenizer.json` lacks stand in its `added_tokens_decoder` or, older, in
    `added_tokens.json`. The ends of a reply are those of `generation_config.json`, or else of `config.json`,
    and those that the tokenizer's configuration lists. Files that are absent say nothing; raises
    ModelFormatError for those that break their format.
    """
    path, map_path = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    config, special_map = _object(path, read_json), _object(map_path, read_json)
    add_bos = config.get("add_bos_token")
    if add_bos is not None and not isinstance(add_bos, bool):
        raise ModelFormatError(path, "add_bos_token", "true or false expected")
    named = _named(map_path, special_map) | _named(path, config)
    generation, model = folder / "generation_config.json", folder / "config.json"
    ends = _end_ids(generation, _object(generation, read_json)) or _end_ids(model, _object(model, read_json))
    roles = Roles(
        bos_token=next((token.content for token in named.get("bos_token", [])), None),
        eos_token=next((token.content for token in named.get("eos_token", [])), None),
        add_bos=add_bos,
        end_ids=(*ends, *_end_ids(path, config)),
        end_tokens=tuple(token.content for role in END_ROLES for token in named.get(role, [])),
        added=_added(folder, path, config, read_json),
        named=tuple(token for tokens in named.values() for token in tokens),
    )
    return roles, _chat_template(folder, path, config)


def _object(path: Path, read_json: Callable[[Path], Any]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelFormatError(path, "JSON", "an object expected")
    return found


def _named(path: Path, config: dict[str, Any]) -> dict[str, list[AddedToken]]:
    """The tokens of each role that the file names."""
    found = {}
    for role in ROLES:
        try:
            tokens = tokens_of_role(config.get(role))
        except Malformed as error:
            raise ModelFormatError(path, role, f"a token's text expected: {error}") from error
        if tokens:
            found[role] = tokens
    return found


def _added(
    folder: Path, path: Path, config: dict[str, Any], read_json: Callable[[Path], Any]
) -> tuple[AddedToken, ...]:
    """The tokens with ids that stand beside `tokenizer.json`, by id."""
    decoder = config.get("added_tokens_decoder")
    if decoder is not None:
        place, where, entries = path, "added_tokens_decoder", decoder
    else:  # older: texts and ids
        place, where = folder / "added_tokens.json", "JSON"
        entries = {i: text for text, i in _object(place, read_json).items() if type(i) is int}
    try:
        if not isinstance(entries, dict):
            raise Malformed("an object expected")
        found = [added_token(entry, token_id_of(int(i))) for i, entry in entries.items()]
    except (Malformed, ValueError) as error:
        raise ModelFormatError(place, where, f"ids and tokens expected: {error}") from error
    return tuple(sorted(found, key=lambda token: token.id or 0))


def _end_ids(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    ids: list[int] = []
    for name in ("eos_token_id", "eos_token_ids"):
        found = config.get(name)
        entries = found if isinstance(found, list) else [] if found is None else [found]
        if not all(type(i) is int for i in entries):
            raise ModelFormatError(path, name, "a token id or a list of them expected")
        ids += entries
    return tuple(ids)


def _chat_template(folder: Path, path: Path, config: dict[str, Any]) -> str | None:
    own = folder / "chat_template.jinja"
    if own.is_file():
        if own.stat().st_size > MAX_TEMPLATE_BYTES:
            raise ModelFormatError(own, "file", f"is larger than {MAX_TEMPLATE_BYTES:,} bytes")
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFormatError(own, "file", f"cannot be read: {error}") from error
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {str(t.get("name")): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default", next(iter(named.values()), None))
    if found is not None and not isinstance(found, str):
        raise ModelFormatError(path, "chat_template", "a template or a list of named templates expected")
    return found
