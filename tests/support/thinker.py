"""A model of bytes that thinks before it answers, so that a test knows every token of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chat_app.engines.local import LocalEngine
from llama_core.checkpoint import Checkpoint
from llama_core.engine.text import TextEngine
from tests.llama_core.engine.conftest import EOS, ByteTokenizer, ScriptedModel

# Thoughts are sent again only while their question is the last, as Qwen3's template has it.
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' and loop.last and m.reasoning_content %}"
    "<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{{ '\\n' }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
CLOSED = b"</think>\n\n"


def says(reply: bytes, answer: bytes = b"yes") -> Callable[[Sequence[int]], int]:
    """Says `reply` after a question; once a thought is closed otherwise than there, `answer`."""

    def script(ids: Sequence[int]) -> int:
        said = bytes(one for one in ids if one < 256).rpartition(b"?\n")[2]
        if reply.startswith(said):
            return reply[len(said)] if len(said) < len(reply) else EOS
        n = len(said.rpartition(CLOSED)[2]) if CLOSED in said else len(answer)
        return answer[n] if n < len(answer) else EOS

    return script


def thinker(
    reply: bytes, *, template: str = TEMPLATE, ctx_size: int = 2048, step_s: float = 0.0
) -> tuple[LocalEngine, ScriptedModel]:
    """An engine whose every reply is `reply`, and its model, which counts what it computes. step_s: how long
    each pass takes."""
    model = ScriptedModel(
        says(reply), max_seq_len=ctx_size, prefill_chunk=64, before=lambda _: time.sleep(step_s)
    )
    checkpoint = Checkpoint(
        Path("thinker.gguf"), "gguf", 0, model.config, {"embed_tokens": None}, ByteTokenizer(), template
    )  # type: ignore[arg-type]
    return LocalEngine(TextEngine(checkpoint, model), Path("thinker.gguf")), model  # type: ignore[arg-type]


def computed(model: ScriptedModel) -> int:
    """How many tokens the model has computed."""
    return sum(len(one) for one in model.passes)


def text_of(ids: Sequence[int]) -> bytes:
    """What ids say, control tokens left out."""
    return bytes(one for one in ids if one < 256)
