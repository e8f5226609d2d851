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


_LEAD = r"[^\r\n\p{L}\p{N}]?"
_WORD = rf"{_LEAD}\p{{L}}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _tiktoken(digits: str) -> str:
    return rf"(?i:{_CONTRACTIONS})|{_WORD}|{digits}|{_SIGNS}|{_SPACE}"


def _cased(digits: str, suffix: str = "", *, but: str = "", ends: str = "/") -> str:
    """Words cut before a capital letter. but: a look-ahead for what is no letter here; ends: what belongs to
    signs beside line ends."""
    upper = rf"(?:{but}[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}])" if but else _UPPER
    lower = rf"(?:{but}[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}])" if but else _LOWER
    words = rf"{_LEAD}{upper}*{lower}+{suffix}|{_LEAD}{upper}+{lower}*{suffix}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{ends}]*|{_SPACE}"


_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = rf"(?i:{_CONTRACTIONS})?"

LLAMA3 = _tiktoken(r"\p{N}{1,3}")
QWEN2 = _tiktoken(r"\p{N}")
TEKKEN = _cased(r"\p{N}")
GPT4O = _cased(r"\p{N}{1,3}", _SUFFIX)
QWEN35 = (
    rf"(?i:{_CONTRACTIONS})|{_LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE}"
)
SEED_CODER = rf"(?i:{_CONTRACTIONS})|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE}"
UFAKZEKA = rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACE}"
EXAONE_MOE = (
    rf"(?i:{_CONTRACTIONS})|{_LEAD}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_RUNS = "|".join(rf"\s{{{n}}}(?!\S)" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
JAIS2 = rf"(?i:{_CONTRACTIONS})|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+|{_RUNS}|\s"
MINICPM5 = (r"\p{N}{1,3}", _tiktoken(r"\p{N}+"))
LAGUNA = (r"[^\n]+|\n+", QWEN2)
TINY_AYA = (r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O)
KIMI_K2 = r"\p{Han}+|" + _cased(r"\p{N}{1,3}", _SUFFIX, but=r"(?!\p{Han})", ends="")
_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")
# The cased letters that the model's authors list.
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
    "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
DEEPSEEK_LLM = (
    "[\r\n]",
    rf"\s?[{_DEEPSEEK_LETTERS}]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    _CJK,
    r"\p{N}+",
)
_HAN_KANA = "[一-龥぀-ゟ゠-ヿ]+"
_SIGN_WORD = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_DEEPSEEK3_WORDS = rf"{_SIGN_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACE}"
DEEPSEEK3 = (r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK3_WORDS)
SPARK = (
    r"\p{N}{1,3}",
    _HAN_KANA,
    rf"{_SIGN_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+",
    r"\p{N}",
)
# Digits in threes from the right.
AFMOE = (
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
    "[一-鿿㐀-䶿\uf900-\ufaff぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
    _DEEPSEEK3_WORDS,
)
SUPERBPE = (r"\p{N}+", r"(?=(?:\d{3})+(?!\d))")
YOUTU = (
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + _HAN_KANA,
    _cased(r"\p{N}", _SUFFIX),
)
BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
CHAMELEON = (
    "<sentinel:[0-9]+>",
    "IMGIMG[A-I]{1,4}Z",
    r"[\t\n]|    |  ",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2,
)
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


# llama.cpp's names, and those of older converters. Missing are those of tokenizers that are not over bytes
# (gemma4, granite-embed-multi-311m, sarvam-moe, whitespace).
_RULES: dict[Rule, str] = {
    Rule((GPT2,)): (
        "gpt-2 phi-2 roberta-bpe mpt olmo jais gigachat jina-es jina-de jina-v2-es jina-v2-de jina-v1-en "
        "jina-v2-code a.x-4.0 mellum modern-bert exaone4 trillion granite-docling"
    ),
    Rule((DIGITS_GPT2,)): "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    Rule((LLAMA3,), ignore_merges=True, add_bos=True): (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"
    ),
    Rule((LLAMA3,)): "dbrx smaug-bpe glm4 chatglm-bpe",
    Rule((QWEN2,)): (
        "qwen2 qwen3 deepseek-r1-qwen stablelm2 megrez kormo f2llmv2 hunyuan solar-open grok-2 "
        # in other words in their files, the same cuts
        "bailingmoe bailingmoe2 llada-moe"
    ),
    Rule((TEKKEN,), ignore_merges=True, add_bos=True): "tekken",
    Rule((GPT4O,)): "gpt-4o llama4 kanana2 talkie minimax-m2",
    Rule((GPT4O,), ignore_merges=True): "granite-embed-multi-97m",
    Rule((QWEN35,)): "qwen35",
    Rule((SEED_CODER,)): "seed-coder",
    Rule((UFAKZEKA,)): "ufakzeka",
    Rule((EXAONE_MOE,)): "exaone-moe",
    Rule((JAIS2,)): "jais-2",
    Rule((KIMI_K2,)): "kimi-k2",
    Rule((BLOOM,)): "bloom poro-chat gpt3-finnish",
    Rule((BLOOM, r"\p{N}")): "viking",
    Rule(MINICPM5, ignore_merges=True): "minicpm5",
    Rule(LAGUNA): "laguna",
    Rule(TINY_AYA): "tiny_aya cohere2moe",
    Rule(DEEPSEEK_LLM): "deepseek-llm",
    Rule(DEEPSEEK_CODER): "deepseek-coder",
    Rule(DEEPSEEK3): "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    Rule(SPARK): "spark2_5",
    Rule(AFMOE): "afmoe",
    Rule(SUPERBPE): "superbpe",
    Rule(YOUTU, ignore_merges=True): "youtu",
    Rule(CHAMELEON, add_bos=True): "chameleon",
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
COMPLETE = frozenset({GPT2, DIGITS_GPT2, LLAMA3, QWEN2, TEKKEN, GPT4O, QWEN35, UFAKZEKA, KIMI_K2})


def _isolate(expression: regex.Pattern[str], text: str) -> list[str]:
    parts = []
    done = 0
    for match in expression.finditer(text):
        start, end = match.span()  # of an empty match only the place counts: it cuts there
        if start > done:
            parts.append(text[done:start])
        if end > start:
            parts.append(text[start:end])
        done = end
    if done < len(text):
        parts.append(text[done:])
    return parts
