"""What lies beside `tokenizer.json`: configurations that name the roles of tokens and, newer, the chat
template as its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_core.errors import ModelFormatError
from llama_core.tokenizers.huggingface.tokenizer_json import Roles

MAX_TEMPLATE_BYTES = 4_000_000


def read_folder(folder: Path, read_json: Callable[[Path], Any]) -> tuple[Roles, str | None]:
    """(the roles of tokens, the chat template or None).

    What `tokenizer_config.json` and `generation_config.json` do not say is looked up where older folders have
    it: in `special_tokens_map.json`, the end tokens also in `config.json`. Files that are absent say nothing;
    raises ModelFormatError for those that break their format.
    """
    path, map_path = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    config, special_map = _object(path, read_json), _object(map_path, read_json)
    add_bos = config.get("add_bos_token")
    if add_bos is not None and not isinstance(add_bos, bool):
        raise ModelFormatError(path, "add_bos_token", "true or false expected")
    roles = Roles(
        bos_token=_token(path, config, "bos_token") or _token(map_path, special_map, "bos_token"),
        eos_token=_token(path, config, "eos_token") or _token(map_path, special_map, "eos_token"),
        add_bos=add_bos,
        end_ids=_end_ids(folder / "generation_config.json", read_json)
        or _end_ids(folder / "config.json", read_json),
    )
    return roles, _chat_template(folder, path, config)


def _object(path: Path, read_json: Callable[[Path], Any]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelFormatError(path, "JSON", "an object expected")
    return found


def _token(path: Path, config: dict[str, Any], name: str) -> str | None:
    value = config.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise ModelFormatError(path, name, "a token's text expected")
    return value


def _end_ids(path: Path, read_json: Callable[[Path], Any]) -> tuple[int, ...]:
    found = _object(path, read_json).get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(i) is int for i in ids):
        raise ModelFormatError(path, "eos_token_id", "a token id or a list of them expected")
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
