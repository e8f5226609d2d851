"""Which rule of GGUF cuts texts as the pre-tokenizer of a `tokenizer.json` does.

GGUF names a rule (`tokenizer.ggml.pre`) where the file carries its expressions. They are compared as they are
written; expressions that no rule has are told by what they do to many texts, independent of the vocabulary:
a small one would hide where the cuts differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.tokenizers.byte_bpe import CHAR_TO_BYTE
from llama_core.tokenizers.json_bpe import JsonBPE
from llama_core.tokenizers.pretokenizers import DIGITS_GPT2, GPT2, RULE_NAMES, Rule, splitter

# Chains of expressions that cut as a rule does that is written otherwise.
_SAME_CUT: dict[tuple[str | None, ...], tuple[str, ...]] = {(r"\p{N}", GPT2): (DIGITS_GPT2,)}


def rule_for(tokenizer: JsonBPE, probes: Sequence[str]) -> tuple[str, bool]:
    """(the name of the rule, whether only the probes told it). Raises ValueError, a sentence, for none."""
    chain = tuple(step.pattern for step in tokenizer._steps)
    chain = _SAME_CUT.get(chain, chain)
    fitting = [rule for rule in RULE_NAMES if rule.patterns == chain]
    by_probes = not fitting
    if by_probes:
        cuts = [tokenizer.pieces(text) for text in probes]
        fitting = [rule for rule in RULE_NAMES if _cuts_so(rule, probes, cuts)]
    if not fitting:
        raise ValueError(
            f"no rule that GGUF knows cuts texts as this tokenizer does ({tokenizer.kind}); "
            f"they are {', '.join(RULE_NAMES.values())}"
        )
    ignore_merges = tokenizer._model.ignore_merges
    for rule in fitting:
        if rule.ignore_merges == ignore_merges:
            return RULE_NAMES[rule], by_probes
    if _merging_makes_every_token(tokenizer):
        return RULE_NAMES[fitting[0]], by_probes
    does = "merges no word that is itself a token" if ignore_merges else "merges every word"
    raise ValueError(
        f"this tokenizer {does} (ignore_merges), GGUF's rule with its expressions ({RULE_NAMES[fitting[0]]}) "
        "does not, and its vocabulary holds tokens that merging does not make"
    )


def _cuts_so(rule: Rule, probes: Sequence[str], cuts: Sequence[Sequence[str]]) -> bool:
    split = splitter(rule.patterns)
    return all(list(split(text)) == cut for text, cut in zip(probes, cuts, strict=True))


def _merging_makes_every_token(tokenizer: JsonBPE) -> bool:
    """Whether `ignore_merges` changes nothing: each token that a word could be is also merged together."""
    for text, token_id in tokenizer._table.items():
        try:
            bytes([CHAR_TO_BYTE[char] for char in text]).decode()
        except (KeyError, UnicodeDecodeError):
            continue  # no word is written so
        if list(tokenizer._merge(text)) != [token_id]:
            return False
    return True
