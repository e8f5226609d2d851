"""Which markers a model thinks between: told by its vocabulary and its chat template."""

from __future__ import annotations

import re

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import ThinkingFormat
from llama_core.tokenizers.thinking.channels import CHANNEL, MESSAGE, ChannelFormat
from llama_core.tokenizers.thinking.tags import TagFormat

# Published models' tags: the first pair that fits is taken.
TAGS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1 and its distils, SmolLM3, QwQ, GLM, Granite
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<thinking>", "</thinking>"),
)
# Variables by which a template can be told to let the model think, or not.
_SWITCH = re.compile(
    r"\benable_thinking\b|\bif\s+(?:not\s+)?thinking\b|\bthinking\s+is\s+(?:not\s+)?defined\b"
)


def thinking_format(
    tokenizer: Tokenizer, template: str | None, markers: tuple[str, str] | None = None
) -> ThinkingFormat | None:
    """How the model marks its thoughts; None where it has none. markers: the tags, given by the user."""
    if markers is not None:
        return TagFormat(tokenizer, *markers)
    if {CHANNEL, MESSAGE} <= tokenizer.special_tokens.keys():
        return ChannelFormat(tokenizer)
    known = [TagFormat(tokenizer, *pair) for pair in TAGS]
    spelled = [one for one in known if template is not None and one.closing in template]
    return next(iter([*spelled, *(one for one in known if one.by_token)]), None)


def has_switch(template: str) -> bool:
    """Whether a chat template asks if the model is to think."""
    return _SWITCH.search(template) is not None
