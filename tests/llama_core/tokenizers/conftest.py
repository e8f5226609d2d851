"""Shared by the tokenizer tests: the default model's metadata, strings that break tokenizers, oracles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from llama_core.errors import ModelFormatError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "reference"

NASTY = [
    "",
    " ",
    "   ",
    "\n",
    "\r\n\r\n  \t",
    " \n \n x",
    "a  b   c\t\td",
    "don't DON'T I'LL we've 'sup '' 's'd",
    "'ſ 'S 'LL o'clock",
    "3.14159 1,000,000 ½ ² Ⅷ ١٢٣ ９９ 1e-10",
    "x" * 300,
    "ab" * 500,
    " " * 257 + "x",
    "\n" * 65,
    "naïve café ﬁancée ÀÉÎ ŒUVRE ß ẞ İi ıI",
    "é e\u0301 \u1e69 s\u0323\u0307",
    "Ελληνικά Русский язык עברית العربية فارسی हिन्दी ไทย 中文 日本語 한국어",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea 👍🏽 1\ufe0f\u20e3",
    "zero\u200bwidth\u200c\u200d\u2060\ufeff",
    "\u202eright to left\u202c \u2066isolate\u2069",
    "nbsp\u00a0\u2007\u202f\u3000ideographic \u1680ogham \u2028line\u2029para\u0085nel",
    "\x00\x01\x02\x03\x04\x05\x06\x07\x0b\x0c\x0e\x13\x14\x16\x1c\x1d\x1e\x1f\x7f",
    "a\x04b !\x04! \x06\x13 \x1d",
    "\U000e0041\U000e007f tags \ue000 private \U0010ffff \ufffe\uffff noncharacters",
    "\U00050000\U000d0000 planes without a byte token",
    "Z̸̡͕̈́a̷̢̛͎l̵̰̏g̵̛͖o̴̫͌",
    "def f(x):\n\treturn {'a': [1, 2], **x}  # comment\n\n\n",
    "<b>&amp;</b> $x^2$ \\alpha http://example.com/?q=1&r=%20#top",
    "snake_case camelCase SCREAMING HTTPServer iPhone",
    "!!!???...---===***___ ,;: (){}[]<>/\\|`~@#%^&+",
    "ℝ∀∃∑√∞ ≤≥≠ ←→ ①②③ ™®© €£¥₿",
    "ＦＵＬＬ　ｗｉｄｔｈ",
    "ꙮ ﷽ ﷺ 𝔘𝔫𝔦 𒀱 𓀀",
]


@pytest.fixture(scope="session")
def nasty_strings() -> list[str]:
    """Strings that have broken tokenizers."""
    return NASTY


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """Reads a file of ../shared/reference; skips where the folder is absent."""

    def read(name: str) -> Any:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"{path} is not here: it lies beside the repository on the development machine only")
        return json.loads(path.read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="session")
def default_checkpoint(default_model: Path) -> Any:
    """The opened default model."""
    from llama_core.loaders import open_checkpoint

    return open_checkpoint(default_model)


def train_byte_level(
    patterns: Sequence[str] | None, corpus: Sequence[str], size: int = 900
) -> tokenizers.Tokenizer:
    """A small byte-level BPE of Hugging Face `tokenizers`. patterns: Split expressions; None: GPT-2's own."""
    oracle = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=patterns is None)
    oracle.pre_tokenizer = byte_level
    if patterns is not None:
        splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
        oracle.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    oracle.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    oracle.train_from_iterator(corpus, trainer)
    return oracle


@pytest.fixture(scope="session")
def byte_level_oracle() -> Callable[[Sequence[str] | None], tokenizers.Tokenizer]:
    """Trains `tokenizers` on this file and the nasty strings with the given Split expressions."""
    corpus = [*NASTY * 3, Path(__file__).read_text(encoding="utf-8"), "The quick brown fox. " * 20]
    return lambda patterns: train_byte_level(patterns, corpus)


@pytest.fixture(scope="session")
def refused() -> Callable[[str], Any]:
    """A context that demands a ModelFormatError whose text matches."""
    return lambda pattern: pytest.raises(ModelFormatError, match=pattern)
