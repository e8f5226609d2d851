"""How byte-level vocabularies cut a text into words before merging.

Each rule is a chain of regular expressions: every match becomes a piece, and so does what lies between
matches. The rules are those that the models' authors published in their `tokenizer.json`; GGUF files name
them in `tokenizer.ggml.pre`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
# Each digit alone, then GPT-2 on the rest. As one expression it is faster: white space before a digit is
# white space at the end of its part.
DIGITS_GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?![^\s\p{{N}}])|\s+"


def _tiktoken(digits: str) -> str:
    return (
        rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def _cased(digits: str, suffix: str = "") -> str:
    upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
    lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    lead = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{lead}{upper}*{lower}+{suffix}|{lead}{upper}+{lower}*{suffix}|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


LLAMA3 = _tiktoken(r"\p{N}{1,3}")
QWEN2 = _tiktoken(r"\p{N}")
TEKKEN = _cased(r"\p{N}")
GPT4O = _cased(r"\p{N}{1,3}", rf"(?i:{_CONTRACTIONS})?")
_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")
# What llama.cpp does with a file that names no rule; no published tokenizer.json has it.
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule. ignore_merges: a piece that is itself a token becomes that token without merging.
    add_bos: whether a prompt starts with the begin token where the file does not say."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_RULES: dict[Rule, str] = {
    Rule((GPT2,)): "gpt-2 phi-2 roberta-bpe mpt olmo jais gigachat jina-es jina-de jina-v2-es jina-v2-de",
    Rule((DIGITS_GPT2,)): "smollm starcoder refact command-r codeshell exaone minerva-7b",
    Rule((LLAMA3,), ignore_merges=True, add_bos=True): (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2"
    ),
    Rule((LLAMA3,)): "dbrx smaug-bpe glm4 chatglm-bpe",
    Rule((QWEN2,)): "qwen2 qwen3 deepseek-r1-qwen stablelm2 megrez kormo",
    Rule((TEKKEN,), ignore_merges=True, add_bos=True): "tekken",
    Rule((GPT4O,)): "gpt-4o llama4",
    Rule(DEEPSEEK_CODER): "deepseek-coder",
    Rule(FALCON): "falcon",
    Rule(DEFAULT): "default",
}
RULES: dict[str, Rule] = {name: rule for rule, names in _RULES.items() for name in names.split()}
# Of the names of each rule the one to write.
RULE_NAMES: dict[Rule, str] = {rule: names.split()[0] for rule, names in _RULES.items()}


@cache
def splitter(patterns: tuple[str, ...]) -> Callable[[str], Sequence[str]]:
    """A function that cuts a text into pieces whose concatenation is the text.

    Raises `regex.error` for an expression that does not compile (the rules above all do).
    """
    # Imported here: it costs 15 ms that `models inspect` need not pay.
    import regex

    compiled = [regex.compile(pattern) for pattern in patterns]
    if len(patterns) == 1 and patterns[0] in COMPLETE:
        split: Callable[[str], Sequence[str]] = compiled[0].findall
        return split

    def split_all(text: str) -> list[str]:
        pieces = [text] if text else []
        for expression in compiled:
            pieces = [part for piece in pieces for part in _isolate(expression, piece)]
        return pieces

    return split_all


# Single expressions that match at every position: nothing lies between their matches.
COMPLETE = frozenset({GPT2, DIGITS_GPT2, LLAMA3, QWEN2, TEKKEN, GPT4O})


def _isolate(expression: regex.Pattern[str], text: str) -> list[str]:
    parts = []
    done = 0
    for match in expression.finditer(text):
        start, end = match.span()
        if start > done:
            parts.append(text[done:start])
        if end > start:
            parts.append(text[start:end])
        done = end
    if done < len(text):
        parts.append(text[done:])
    return parts
