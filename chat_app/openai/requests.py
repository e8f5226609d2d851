"""What the body of a chat completion or a completion asks for.

Source: OpenAI's API reference; vLLM's names for what OpenAI does not have are taken too, and our own.
What this engine cannot honour is refused by name, never silently left out. null asks for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from chat_app.openai import structured
from chat_app.openai.errors import BadRequest, missing, short
from chat_app.openai.tools import parse_calls, parse_tool_choice, parse_tools
from llama_core.choices import Thinking
from llama_core.sampling.params import SamplingParams

ROLES = ("system", "developer", "user", "assistant", "tool")
# OpenAI's default for completions; chats go on to the end of the context.
COMPLETION_MAX_TOKENS = 16
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024

# What vLLM and llama.cpp call the most tokens of a thought.
THOUGHT_BUDGETS = ("thinking_token_budget", "thinking_budget_tokens")
# What is read of a message. Some templates write the name; nobody hears of the rest.
_HEARD = frozenset({"role", "content", "name", "reasoning_content", "tool_calls", "tool_call_id"})

Kind = Literal["chat", "completion"]

# Fields without influence on the tokens, and fields that are fine at the value that switches them off.
_IGNORED = frozenset(
    {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
}
_PARAMETERS = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "max_tokens"}
    | {
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "typical_p",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "logit_bias",
        *structured.FIELDS,
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_completion_tokens",
        "ignore_eos",
        "n",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "continue_final_message",
        "add_generation_prompt",
        "chat_template_kwargs",
        "reasoning_effort",
        *THOUGHT_BUDGETS,
    }
)

# Names in a request that are others in `SamplingParams`, or mean several fields there.
FIELDS: Mapping[str, tuple[str, ...]] = {"repetition_penalty": ("repeat_penalty", "repeat_last_n")}


@dataclass(frozen=True, slots=True)
class Generation:
    """A request. `messages` for a chat, else `prompt`: a text, or token ids.

    n: how many replies. top_n: how many alternatives of each token are told, None for no log-probabilities at
    all. answers: the texts that are to be scored, where the reply is one of them. held_by: the field that
    says what the reply must be, "" where none does. include_usage: whether a stream ends with the numbers of
    tokens. tools, tool_choice: see `tools.py`; one_call: at most one call counts. continues: the last message
    is the beginning of the reply, which goes on with it.
    """

    params: SamplingParams
    messages: tuple[Mapping[str, Any], ...] | None
    prompt: str | tuple[int, ...] | None
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    top_n: int | None = None
    answers: tuple[str, ...] = ()
    held_by: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "none"
    one_call: bool = False
    continues: bool = False
    given: frozenset[str] = frozenset()

    @property
    def callable_tools(self) -> list[Mapping[str, Any]]:
        """The functions of which one must be called, where one must."""
        functions = [tool["function"] for tool in self.tools]
        name = self.tool_choice.removeprefix("=")
        return functions if name == "required" else [one for one in functions if one["name"] == name]

    @property
    def tool_names(self) -> list[str]:
        """The names of all tools that there are."""
        return [tool["function"]["name"] for tool in self.tools]

    @property
    def kind(self) -> Kind:
        """Whether it came to the route for chats or for completions."""
        return "completion" if self.messages is None else "chat"


def parse_generation(kind: Kind, body: Mapping[str, Any]) -> Generation:
    """The body of a request. Raises BadRequest."""
    body = {name: value for name, value in body.items() if value is not None}
    payload = "messages" if kind == "chat" else "prompt"
    _check_fields(body, payload)
    stream = _truth(body, "stream")
    options = _stream_options(body, stream)
    n = _number(body, "n", 1, int)
    if not 1 <= n <= MAX_CHOICES:
        raise BadRequest(f"body.n is {n}, expected 1 to {MAX_CHOICES}", param="body.n")
    try:
        params = _params(body, None if kind == "chat" else COMPLETION_MAX_TOKENS)
    except BadRequest:
        raise
    except ValueError as error:  # a parameter out of its range
        raise BadRequest(f"body: {error}", param="body") from None
    chat = kind == "chat"
    tools = parse_tools(body) if chat else ()
    tool_choice = parse_tool_choice(body, tools)
    if tool_choice not in ("none", "auto") and (held_by := structured.field_of(body)):
        problem = f"body.tool_choice and body.{held_by} exclude each other"
        raise BadRequest(problem, param="body.tool_choice")
    return Generation(
        params=params,
        messages=_messages(body.get("messages")) if chat else None,
        prompt=None if chat else _prompt(body.get("prompt")),
        n=n,
        stream=stream,
        include_usage=options,
        top_n=_top_n(kind, body),
        answers=structured.parse_answers(body),
        held_by=structured.field_of(body),
        tools=tools,
        tool_choice=tool_choice,
        one_call=not _truth(body, "parallel_tool_calls", True),
        given=frozenset(field for name in body for field in FIELDS.get(name, (name,))),
        continues=chat and _continues(body),
    )


def as_advised(params: SamplingParams, given: Collection[str], advice: Mapping[str, Any]) -> SamplingParams:
    """`params` with what the model's makers advise, in all that the request does not name."""
    return replace(params, **{field: value for field, value in advice.items() if field not in given})


def _check_fields(body: Mapping[str, Any], payload: str) -> None:
    for name, value in body.items():
        if name in _NEUTRAL:
            if not any(value == neutral and type(value) is type(neutral) for neutral in _NEUTRAL[name]):
                problem = f"body.{name} = {short(value)} is not supported"
                raise BadRequest(problem, "unsupported_value", f"body.{name}")
        elif name not in _IGNORED and name not in _PARAMETERS and name != payload:
            raise BadRequest(f"body.{short(name)[1:-1]} is not supported", "unknown_parameter", "body")


def _number(body: Mapping[str, Any], name: str, default: Any, kind: type = float) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        expected = "a whole number" if kind is int else "a number"
        problem = f"body.{name} is {short(value)}, expected {expected}"
        raise BadRequest(problem, "invalid_type", f"body.{name}")
    try:
        return kind(value)
    except OverflowError:
        problem = f"body.{name} is {short(value)}, which is out of range"
        raise BadRequest(problem, param=f"body.{name}") from None


def _truth(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"body.{name} is neither true nor false", "invalid_type", f"body.{name}")
    return value


def _stream_options(body: Mapping[str, Any], stream: bool) -> bool:
    """Whether usage is asked for."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not set(options) <= {"include_usage"}:
        raise BadRequest("body.stream_options takes include_usage alone", param="body.stream_options")
    if not stream:
        raise BadRequest("body.stream_options needs stream", param="body.stream_options")
    return _truth(options, "include_usage")


def _continues(body: Mapping[str, Any]) -> bool:
    """Whether the last message is a reply that goes on, in vLLM's words. Raises BadRequest."""
    goes_on = _truth(body, "continue_final_message")
    if body.get("add_generation_prompt", not goes_on) is goes_on:
        problem = "body.add_generation_prompt has to be the opposite of body.continue_final_message"
        raise BadRequest(problem, param="body.add_generation_prompt")
    if goes_on and body["messages"][-1]["role"] != "assistant":
        problem = "body.continue_final_message needs a last message of the assistant"
        raise BadRequest(problem, param="body.continue_final_message")
    return goes_on


def _top_n(kind: Kind, body: Mapping[str, Any]) -> int | None:
    """How many alternatives are asked for. Chats say `logprobs` and `top_logprobs`, completions a number."""
    if kind == "completion":
        asked = body.get("logprobs")
        top = None if asked is None or asked is False else _number(body, "logprobs", None, int)
    else:
        wanted = body.get("logprobs", False) != 0 and _truth(body, "logprobs")
        top = _number(body, "top_logprobs", 0, int) if wanted else None
        if top is None and _number(body, "top_logprobs", 0, int):
            raise BadRequest("body.top_logprobs needs logprobs", param="body.top_logprobs")
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        name = "body.top_logprobs" if kind == "chat" else "body.logprobs"
        raise BadRequest(f"{name} is {top}, expected 0 to {MAX_TOP_LOGPROBS}", param=name)
    return top


def _params(body: Mapping[str, Any], max_tokens: int | None) -> SamplingParams:
    """OpenAI's defaults: temperature 1, everything else off."""
    defaults = SamplingParams()
    if "repetition_penalty" in body and "repeat_penalty" in body:
        problem = "body.repetition_penalty and body.repeat_penalty exclude each other"
        raise BadRequest(problem, param="body.repeat_penalty")
    # vLLM's looks at all that was said, ours at the last tokens.
    looks_back = defaults.repeat_last_n if "repeat_penalty" in body else -1
    limit = _number(body, "max_completion_tokens", _number(body, "max_tokens", max_tokens, int), int)
    return SamplingParams(
        temperature=_number(body, "temperature", 1.0),
        top_p=_number(body, "top_p", 1.0),
        top_k=max(0, _number(body, "top_k", 0, int)),  # -1 is vLLM's "off"
        min_p=_number(body, "min_p", 0.0),
        repeat_penalty=_number(body, "repetition_penalty", _number(body, "repeat_penalty", 1.0)),
        repeat_last_n=_number(body, "repeat_last_n", looks_back, int),
        presence_penalty=_number(body, "presence_penalty", 0.0),
        frequency_penalty=_number(body, "frequency_penalty", 0.0),
        typical_p=_number(body, "typical_p", 1.0),
        dry_multiplier=_number(body, "dry_multiplier", 0.0),
        dry_base=_number(body, "dry_base", defaults.dry_base),
        dry_allowed_length=_number(body, "dry_allowed_length", defaults.dry_allowed_length, int),
        dry_penalty_last_n=_number(body, "dry_penalty_last_n", defaults.dry_penalty_last_n, int),
        dry_sequence_breakers=_texts(body, "dry_sequence_breakers", defaults.dry_sequence_breakers),
        logit_bias=_logit_bias(body),
        grammar=structured.parse_grammar(body),
        seed=_number(body, "seed", None, int),
        max_tokens=limit,
        stop=_texts(body, "stop", ()),
        thinking=_thinking(body),
        ignore_eos=_truth(body, "ignore_eos"),
    )


def _thinking(body: Mapping[str, Any]) -> Thinking:
    """Whether the model is to think, and how long: OpenAI's `reasoning_effort` "none", or vLLM's
    `chat_template_kwargs`; vLLM's `thinking_token_budget` or llama.cpp's `thinking_budget_tokens`."""
    effort, options = body.get("reasoning_effort"), body.get("chat_template_kwargs", {})
    if effort not in (None, "none", "minimal", "low", "medium", "high"):
        problem = f"body.reasoning_effort is {short(effort)}, expected none, minimal, low, medium or high"
        raise BadRequest(problem, param="body.reasoning_effort")
    known = isinstance(options, dict) and set(options) <= {"enable_thinking", "thinking"}
    if not known or not all(isinstance(value, bool) for value in options.values()):
        name = "body.chat_template_kwargs"
        raise BadRequest(f"{name} takes enable_thinking, true or false, alone", "unsupported_value", name)
    wanted = next(iter(options.values()), None if effort is None else effort != "none")
    if wanted is False:
        return "off"
    named = [name for name in THOUGHT_BUDGETS if body.get(name) is not None]
    if len(named) > 1:
        problem = " and ".join(f"body.{name}" for name in named)
        raise BadRequest(f"{problem} exclude each other", param=f"body.{named[-1]}")
    budget: int | None = _number(body, named[0], None, int) if named else None
    if budget == -1 and named == ["thinking_budget_tokens"]:  # llama.cpp's word for no limit
        budget = None
    if budget is not None and budget < 0:
        name = f"body.{named[0]}"
        raise BadRequest(f"{name} is {short(budget)}, expected 0 or more", param=name)
    return budget if budget is not None else "on" if wanted else None


def _texts(body: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """One string, or a list of them."""
    value = body.get(name, default)
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        problem = f"body.{name} is neither a string nor a list of strings"
        raise BadRequest(problem, "invalid_type", f"body.{name}")
    return tuple(texts)


def _logit_bias(body: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    """Numbers by token id; JSON has the ids as strings."""
    value = body.get("logit_bias", {})
    if not isinstance(value, dict) or not all(name.isdecimal() and len(name) < 10 for name in value):
        problem = "body.logit_bias is no object of numbers by token id"
        raise BadRequest(problem, "invalid_type", "body.logit_bias")
    if len(value) > MAX_BIASES:
        problem = f"body.logit_bias has {len(value):,} ids, expected at most {MAX_BIASES}"
        raise BadRequest(problem, param="body.logit_bias")
    return tuple((int(name), _number(value, name, 0.0)) for name in sorted(value))


def _messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not value:
        raise BadRequest("body.messages is missing or empty", *missing("body.messages", value or None))
    messages = []
    for i, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            where = f"body.messages[{i}]"
            raise BadRequest(f"{where} has no role of {', '.join(ROLES)}", param=where)
        unheard = sorted(
            name for name, given in message.items() if name not in _HEARD and given not in (None, [], "")
        )
        if unheard:
            where = f"body.messages[{i}].{short(unheard[0])[1:-1]}"
            raise BadRequest(f"{where} is not supported", "unsupported_value", where)
        role = "system" if message["role"] == "developer" else message["role"]
        calls = message.get("tool_calls") if role == "assistant" else None
        text = "" if calls and message.get("content") is None else _content(message.get("content"), i)
        said: dict[str, Any] = {"role": role, "content": text}
        if calls:
            said["tool_calls"] = parse_calls(calls, f"body.messages[{i}].tool_calls")
        if role == "tool" and isinstance(message.get("tool_call_id"), str):
            said["tool_call_id"] = message["tool_call_id"]
        name = message.get("name")
        if name is not None and not isinstance(name, str):
            where = f"body.messages[{i}].name"
            raise BadRequest(f"{where} is not a string", "invalid_type", where)
        thought = message.get("reasoning_content")
        if thought is not None and not isinstance(thought, str):
            where = f"body.messages[{i}].reasoning_content"
            raise BadRequest(f"{where} is not a string", "invalid_type", where)
        said |= {"reasoning_content": thought} if thought else {}
        messages.append(said if name is None else said | {"name": name})
    return tuple(messages)


def _content(value: Any, i: int) -> str:
    """Text, or a list of text parts joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in value
    ):
        return "".join(part["text"] for part in value)
    where = f"body.messages[{i}].content"
    raise BadRequest(f"{where} is not text", "invalid_type", where)


def _prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        return tuple(value)
    problem = "body.prompt is neither a text nor a list of token ids (one prompt a request)"
    raise BadRequest(problem, *missing("body.prompt", value))
