"""A model's chat template: a conversation to text, and to tokens that no message can forge.

Jinja has no limits of its own. Here a template runs in this process with every step counted, for about a
second at most, or, where its steps cannot be counted, in a child process with limits on time and memory;
2.3 s in all. Its output is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_core.errors import TemplateError
from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.templates.guard import Guard, unused_character

if TYPE_CHECKING:
    from jinja2 import Template

    from llama_core.tokenizers.templates.sandbox import MeteredEnvironment

# No published template comes near; beyond it, even refusing takes long.
MAX_TEMPLATE = 1_000_000
METERED_S = 1.0
TOTAL_S = 2.3
# What a template may write beyond the messages: encoding has no clock, so its input is bounded.
MAX_ADDED = 100_000


class ChatTemplate:
    """A Jinja chat template as models carry it.

    source: the template; bos_token, eos_token: what it may insert under these names. Safe to share by
    threads. Rendering raises TemplateError, a sentence, when the template fails, refuses the conversation
    (its own words are kept) or exceeds its limits.
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        self._lock = threading.Lock()
        self._compiled: tuple[MeteredEnvironment, Template] | str | None = None

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The conversation as text. messages: dicts with "role" and "content"."""
        start = time.monotonic()
        if len(self.source) > MAX_TEMPLATE:
            raise TemplateError(f"The model's chat template is {len(self.source):,} characters long.")
        variables: dict[str, Any] = {
            "messages": [{str(k): str(v) for k, v in message.items()} for message in messages],
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "add_generation_prompt": add_generation_prompt,
            # Templates distinguish "no tools" from "never heard of tools" as transformers passes them.
            "tools": None,
            "documents": None,
        }
        text = self._render_metered(variables)
        if text is None:
            from llama_core.tokenizers.templates.child import render_in_child

            text = render_in_child(self.source, variables, TOTAL_S - (time.monotonic() - start))
        size = sum(len(text) for message in variables["messages"] for text in message.values())
        if len(text) > size + MAX_ADDED:
            raise TemplateError(
                f"The model's chat template produces too much text: {len(text):,} characters "
                f"from {size:,} of messages."
            )
        return text

    def _render_metered(self, variables: dict[str, Any]) -> str | None:
        """The text, or None when the template's cost cannot be counted."""
        from llama_core.tokenizers.templates.environment import explain
        from llama_core.tokenizers.templates.meter import Meter, NotMetered
        from llama_core.tokenizers.templates.sandbox import BASE_BUDGET, BUDGET_PER_CHARACTER

        with self._lock:
            try:
                compiled = self._compile()
                if compiled is None:
                    return None
                environment, template = compiled
                meter = Meter(BASE_BUDGET, METERED_S)
                size = sum(len(text) for message in variables["messages"] for text in message.values())
                meter.left += BUDGET_PER_CHARACTER * size
                environment.meter = meter
                return environment.concat(template.root_render_func(template.new_context(variables)))
            except NotMetered:
                self._compiled = "child"
                return None
            except Exception as error:  # a template can raise anything Python can
                raise TemplateError(explain(error)) from error

    def _compile(self) -> tuple[MeteredEnvironment, Template] | None:
        from jinja2 import Template

        from llama_core.tokenizers.templates.sandbox import metered_environment, prepare

        if self._compiled is None:
            environment = metered_environment()
            code = environment.compile(prepare(environment, self.source))
            template = Template.from_code(environment, code, environment.make_globals(None))
            self._compiled = (environment, template)
        return None if isinstance(self._compiled, str) else self._compiled

    def encode(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenizer: Tokenizer,
        *,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Token ids of the conversation. Special tokens are those of the template's own text: a message that
        spells one keeps it as text. The begin token is added where the tokenizer asks for it and the
        template has not written it. Raises TemplateError like `render`."""
        # A token of one character cannot be broken by a mark, so a template cannot have it either.
        special = {text: i for text, i in tokenizer.special_tokens.items() if len(text) > 1}
        texts = [text for message in messages for text in message.values()]
        mark = unused_character([self.source, self.bos_token, self.eos_token, *special, *texts])
        marked = Guard(special).mark_messages(messages, mark)
        rendered = self.render(marked, add_generation_prompt=add_generation_prompt)
        parts = [
            part if isinstance(part, int) else part.replace(mark, "")
            for part in TokenMatcher(special).split(rendered)
        ]
        ids = tokenizer.encode_parts([part for part in parts if part != ""])
        bos_id = tokenizer.bos_id
        if tokenizer.add_bos and bos_id is not None and ids[:1] != [bos_id]:
            ids.insert(0, bos_id)
        return ids
