"""A request in a model's own tokens: the prompt, the rules of its reply, the answers to be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chat_app.openai.errors import BadRequest
from chat_app.openai.requests import Generation, as_advised
from chat_app.openai.tool_formats import ToolFormat, call_grammar, tool_format
from llama_core.engine.rules import TokenRules
from llama_core.engine.scoring import Answer
from llama_core.errors import GrammarError, TemplateError
from llama_core.sampling.params import SamplingParams

if TYPE_CHECKING:
    from llama_core.engine.text import TextEngine
    from llama_core.tokenizers.thinking.base import ThinkingFormat


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a batch takes. answers: the tokens of each with its text. tools: how the model writes calls, where
    it may; thinking: how it writes thoughts, where they are told apart."""

    ids: tuple[int, ...]
    params: SamplingParams
    rules: TokenRules
    answers: Mapping[Answer, str] = field(default_factory=dict)
    tools: ToolFormat | None = None
    thinking: ThinkingFormat | None = None


def prepare(asked: Generation, engine: TextEngine, advice: Mapping[str, Any]) -> Prepared:
    """Render, encode and compile a request, once. advice: the model's makers', for what the request does not
    name. Raises BadRequest where this model cannot honour it."""
    try:
        return _prepared(asked, engine, as_advised(asked.params, asked.given, advice))
    except TemplateError as error:
        raise BadRequest(str(error), "invalid_prompt", "body.messages") from None
    except GrammarError as error:
        raise BadRequest(str(error), param=f"body.{asked.held_by or 'tools'}") from None


def _prepared(asked: Generation, engine: TextEngine, params: SamplingParams) -> Prepared:
    tools = _tools(asked, engine)
    ids = _prompt_ids(asked, engine)
    if not ids:
        raise BadRequest("the prompt is empty: there is nothing to continue", "invalid_prompt")
    if asked.answers:
        try:
            encoded = dict(zip(engine.answer_ids(asked.answers), asked.answers, strict=True))
        except ValueError as error:
            raise BadRequest(str(error), param="body.guided_choice") from None
        # One token is room enough: the answers are computed beside the prompt.
        before = tuple(engine.ids_before_answer(ids))
        return Prepared(before, replace(params, max_tokens=1), TokenRules(), encoded)
    if tools is not None and asked.tool_choice not in ("auto", "none"):
        grammar = call_grammar(tools, asked.callable_tools, engine.tokenizer.special_tokens)
        params = replace(params, grammar=grammar)
    chat = asked.messages is not None
    rules = engine.rules.of(params, ids, plain=not chat)
    return Prepared(tuple(ids), params, rules, tools=tools, thinking=engine.thinking if chat else None)


def _tools(asked: Generation, engine: TextEngine) -> ToolFormat | None:
    """How this model writes calls; None where none is wanted. Raises BadRequest where it cannot."""
    if not asked.tools or asked.tool_choice == "none":
        return None
    source = "" if engine.template is None else engine.template.source
    found = tool_format(source)
    if found is None:
        problem = "the chat template of this model takes no tools, or in a form that is not known here"
        raise BadRequest(problem, "unsupported_value", "body.tools")
    return found


def _prompt_ids(asked: Generation, engine: TextEngine) -> list[int]:
    if asked.messages is not None:
        tools = () if asked.tool_choice == "none" else asked.tools
        turns, begun = (asked.messages[:-1], asked.messages[-1:]) if asked.continues else (asked.messages, ())
        ids = engine.encode_chat(turns, thinking=asked.params.thinking, tools=tools)
        return ids + [one for message in begun for one in engine.tokenizer.encode(message["content"])]
    if isinstance(asked.prompt, str):
        return engine.encode_raw(asked.prompt)
    return list(asked.prompt or ())
