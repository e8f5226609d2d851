"""A model's chat template: a conversation to text, and to tokens that no message can forge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from llama_core.errors import ConversationRefusedError, TemplateError
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.templates.guard import Guard, texts_of, unused_character
from llama_core.tokenizers.templates.worker import SHARED, TemplateWorker

NONE: Mapping[str, Any] = MappingProxyType({})
# What a template may write beyond the messages: encoding has no clock, so its input is bounded.
MAX_ADDED = 100_000

SYSTEM_FOLDED = (
    "The model's chat template takes no system prompt: its text is put before the first question instead."
)

SYSTEM_HIDDEN = (
    "The model's chat template does not show the system prompt as it was given: the model may not see it."
)

_log = logging.getLogger(__name__)


def fold_system(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """The conversation with the system prompt at its begin moved into the first question; None where there is
    no such prompt, or no question behind it."""
    n = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if n == 0 or n == len(messages) or messages[n]["role"] != "user":
        return None
    texts = [message["content"] for message in messages[: n + 1]]
    return [{**messages[n], "content": "\n".join(filter(None, texts))}, *map(dict, messages[n + 1 :])]


def plain_data(value: Any) -> Any:
    """JSON-like data as it is; whatever else becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class ChatTemplate:
    """A Jinja chat template as models carry it.

    source: the template; bos_token, eos_token: what it may insert under these names; worker: where it is
    rendered, which is started here. Safe to share by threads. Rendering raises TemplateError, a sentence,
    when the template fails, refuses the conversation (its own words are kept) or exceeds its limits.
    """

    def __init__(
        self, source: str, bos_token: str = "", eos_token: str = "", worker: TemplateWorker = SHARED
    ) -> None:
        self.source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        self._worker = worker
        # Whether a system prompt was put before the first question, for want of a place.
        self.folds_system = False
        # Whether a system prompt stood nowhere in what the template wrote.
        self.hides_system = False
        worker.start()

    @property
    def system_note(self) -> str:
        """What a person should know of the system prompts sent so far; empty where all is well."""
        return SYSTEM_FOLDED if self.folds_system else SYSTEM_HIDDEN if self.hides_system else ""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] = NONE,
    ) -> str:
        """The conversation as text. messages: dicts with "role" and "content"; variables: what the template
        may ask for beside (`enable_thinking`, `tools`). All of it is data as JSON has it."""
        variables = {
            # Templates distinguish "no tools" from "never heard of tools" as transformers passes them.
            "tools": None,
            **variables,
            "messages": [{str(k): plain_data(v) for k, v in message.items()} for message in messages],
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "add_generation_prompt": add_generation_prompt,
            "documents": None,
        }
        size = sum(map(len, texts_of(variables)))
        return self._worker.render(self.source, variables, size + MAX_ADDED)

    def _with_system(
        self,
        messages: list[dict[str, Any]],
        mark: str,
        render: Callable[[Sequence[Mapping[str, Any]]], str],
    ) -> str:
        """The conversation as text, with the system prompt in it wherever the template takes one: in its
        own role or, where that is refused or passed over, before the first question."""
        folded = fold_system(messages)
        refusal: ConversationRefusedError | None = None
        text = ""
        try:
            text = render(messages)
        except ConversationRefusedError as error:
            if folded is None:
                raise
            refusal = error
        has_system = bool(messages) and messages[0]["role"] == "system"
        said = str(messages[0].get("content") or "").replace(mark, "").strip() if has_system else ""
        if refusal is None and said in text.replace(mark, ""):
            return text
        if folded is None:
            self.hides_system = True
            return text
        try:
            instead = render(folded)
        except TemplateError:
            instead = ""
        if said not in instead.replace(mark, "") or not instead:
            if refusal is not None:
                raise refusal
            self.hides_system = True
            return text
        if not self.folds_system:
            self.folds_system = True
            _log.info("%s", SYSTEM_FOLDED)  # whoever asked for the ids tells the person
        return instead

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenizer: Tokenizer,
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] = NONE,
    ) -> list[int]:
        """Token ids of the conversation. Special tokens are those of the template's own text: a message that
        spells one keeps it as text. The begin token is added where the tokenizer asks for it and the
        template has not written it. A system prompt that the template has no place for goes before the first
        question, as in llama.cpp. Raises TemplateError like `render`."""
        special = [text for text in tokenizer.special_tokens if len(text) > 1]
        texts = texts_of([list(messages), dict(variables)])
        mark = unused_character([self.source, self.bos_token, self.eos_token, *special, *texts])
        guard = Guard(special)
        marked = guard.mark_messages(messages, mark)
        variables = guard.mark_data(variables, mark)

        def render(messages: Sequence[Mapping[str, Any]]) -> str:
            return self.render(messages, add_generation_prompt=add_generation_prompt, variables=variables)

        rendered = self._with_system(marked, mark, render)
        parts = [
            part if isinstance(part, int) else part.replace(mark, "")
            for part in tokenizer.split_special(rendered)
        ]
        ids = tokenizer.encode_parts([part for part in parts if part != ""])
        bos_id = tokenizer.bos_id
        if tokenizer.add_bos and bos_id is not None and ids[:1] != [bos_id]:
            ids.insert(0, bos_id)
        return ids
