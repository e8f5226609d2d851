"""What servers of OpenAI's API understand beside it, and how a reply's parameters are told to them.

Each server has fields of its own, and some refuse what they do not know. A server says in `/v1/models` who
it is (`owned_by`); one that nobody knows gets OpenAI's fields alone. Sources: the API references of OpenAI,
vLLM, llama.cpp's server, ollama and LM Studio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from chat_app.config.settings import Settings
from llama_core.sampling.params import SamplingParams

TOP_LOGPROBS = 10
# OpenAI's own fields, by our names.
_COMMON: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "logit_bias": "logit_bias",
}
# Fields that a request can do without: a server that refuses one is asked again without it.
OPTIONAL = (
    "top_logprobs",
    "logprobs",
    "stream_options",
    "return_progress",
    "chat_template_kwargs",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_p",
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server.

    more: our parameters that it takes, and their names there. top_k_off: what switches top_k off there.
    go_on: fields with which it goes on with the last message, the assistant's; None where it cannot.
    progress: whether it tells how far a prompt is. thinks: whether its chat template can be told to have the
    model think, or not; budget: its name for the most tokens of a thought, "" where it has none. held: its
    field for each kind of grammar but schemas, which OpenAI's field names; with a dot: a field within an
    object. limit: its name for the longest reply. untold: what of the panel it never tells.
    """

    kind: str
    more: Mapping[str, str] = field(default_factory=dict)
    top_k_off: int = 0
    go_on: Mapping[str, Any] | None = None
    progress: bool = False
    thinks: bool = False
    budget: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    limit: str = "max_tokens"
    raw: bool = True
    untold: str = "memory, KV cache, prefill rate"

    def unheard(self, params: SamplingParams) -> list[str]:
        """Our names of parameters that were set and that this server cannot be told."""
        told = {*_COMMON, *self.more, "max_tokens", "stop"}
        if self._thinking(params):
            told.add("thinking")
        if self._held(params):
            told.add("grammar")
        usual = Settings().params
        names = [one.name for one in fields(SamplingParams) if one.name not in told]
        return [name for name in names if getattr(params, name) != getattr(usual, name)]

    def to_body(self, params: SamplingParams) -> dict[str, Any]:
        """The parameters as this server calls them."""
        told = {**_COMMON, **self.more}
        body = {name: _as_json(getattr(params, ours)) for ours, name in told.items()}
        if params.top_k == 0 and "top_k" in body:
            body["top_k"] = self.top_k_off
        if not params.ignore_eos:
            body.pop("ignore_eos", None)
        if not params.dry_multiplier:
            body.pop("dry_sequence_breakers", None)
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if not body[name]:
                del body[name]  # off is what every server does unasked
        if params.seed is None:
            del body["seed"]
        if params.max_tokens is not None:
            body[self.limit] = params.max_tokens
        if params.stop:
            body["stop"] = list(params.stop)
        return body | self._thinking(params) | self._held(params)

    def _thinking(self, params: SamplingParams) -> dict[str, Any]:
        """What says whether the model is to think, and how long; nothing where that cannot be said."""
        if params.thinking in ("on", "off"):
            wanted = {"chat_template_kwargs": {"enable_thinking": params.thinking == "on"}}
            return wanted if self.thinks else {}
        return {self.budget: params.thinking} if params.thinking is not None and self.budget else {}

    def _held(self, params: SamplingParams) -> dict[str, Any]:
        """What says what the reply must be; nothing where that cannot be said."""
        grammar = params.grammar
        if grammar is None:
            return {}
        if grammar.kind == "schema":
            described = {"name": "reply", "schema": json.loads(grammar.text), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": described}}
        name, _, within = self.held.get(grammar.kind, "").partition(".")
        if not name:
            return {}
        return {name: {within: grammar.text} if within else grammar.text}


def _as_json(value: Any) -> Any:
    """A parameter's value as a request has it: biases by token id as an object, texts as a list."""
    if not isinstance(value, tuple):
        return value
    pairs = [one for one in value if isinstance(one, tuple)]
    return {str(token_id): bias for token_id, bias in pairs} if pairs else list(value)


_DRY = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers")
_LLAMA_CPP = ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", *_DRY, "ignore_eos")
_VLLM_GOES_ON = {"continue_final_message": True, "add_generation_prompt": False}
_BY_VLLM = {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"}

DIALECTS: Mapping[str, Dialect] = {
    dialect.kind: dialect
    for dialect in (
        Dialect(
            "llama-chat",
            {name: name for name in _LLAMA_CPP},
            go_on=_VLLM_GOES_ON,
            thinks=True,
            budget="thinking_token_budget",
            held={"regex": "guided_regex", "grammar": "guided_grammar"},
        ),
        Dialect(
            "llama.cpp",
            {name: name for name in _LLAMA_CPP},
            go_on={},
            progress=True,
            thinks=True,
            untold="memory, KV cache",
        ),
        Dialect(
            "vllm",
            {**_BY_VLLM, "ignore_eos": "ignore_eos"},
            -1,
            go_on=_VLLM_GOES_ON,
            thinks=True,
            # `guided_*` until version 0.12, which has them no more.
            held={"regex": "structured_outputs.regex", "grammar": "structured_outputs.grammar"},
        ),
        Dialect("ollama", go_on={}),
        Dialect("lm-studio", {"top_k": "top_k", "repeat_penalty": "repeat_penalty"}),
        Dialect(
            "openai", limit="max_completion_tokens", raw=False, untold="memory, KV cache, prefill, context"
        ),
        Dialect("other"),
    )
}
# What `owned_by` says in /v1/models.
_OWNERS = {
    "llama-chat": "llama-chat",
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "library": "ollama",
    "organization_owner": "lm-studio",
    "openai": "openai",
    "openai-internal": "openai",
    "system": "openai",
}


def dialect_of(models: Sequence[Mapping[str, Any]], kind: str = "") -> Dialect:
    """Of the server whose list of models this is; `kind` where config.toml says it."""
    if not kind:
        kind = next(
            (_OWNERS[owner] for model in models if (owner := str(model.get("owned_by"))) in _OWNERS), "other"
        )
    return DIALECTS[kind]


def context_of(model: Mapping[str, Any]) -> int:
    """The size of the context in tokens, as an entry of /v1/models tells it; 0 where it does not."""
    meta = model.get("meta")
    for source, name in ((meta, "n_ctx"), (model, "max_model_len"), (model, "context_length")):
        value = source.get(name) if isinstance(source, Mapping) else None
        if type(value) is int and value > 0:
            return value
    return 0


def without_refused(body: Mapping[str, Any], param: str, message: str) -> dict[str, Any] | None:
    """The request without the field that the server's error names, None where that is none to do without.

    Some models take the longest reply by its newer name alone.
    """
    said = f"{param} {message}"
    if "max_tokens" in body and "max_completion_tokens" in said:
        rest = {name: value for name, value in body.items() if name != "max_tokens"}
        return {**rest, "max_completion_tokens": body["max_tokens"]}
    refused = next((name for name in OPTIONAL if name in body and re.search(rf"\b{name}\b", said)), None)
    if refused is None:
        return None
    linked = {"logprobs": ("logprobs", "top_logprobs")}.get(refused, (refused,))
    return {name: value for name, value in body.items() if name not in linked}
