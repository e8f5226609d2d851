"""The heap gives what the plain definition of byte pair encoding gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llama_core.tokenizers.merge import merge_symbols


def merge_by_definition(symbols: list[str], ranks: dict[str, int]) -> list[str]:
    """Scan all pairs, join the leftmost of the lowest rank, repeat."""
    symbols = list(symbols)
    while True:
        found = [
            (ranks[pair], i)
            for i in range(len(symbols) - 1)
            if (pair := " ".join(symbols[i : i + 2])) in ranks
        ]
        if not found:
            return symbols
        _, i = min(found)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@st.composite
def merge_tables(draw: st.DrawFn) -> dict[str, int]:
    """Pairs of letters and of earlier results, so that merges build on each other; some ranks tie."""
    tokens = list("ab")
    ranks: dict[str, int] = {}
    for _ in range(draw(st.integers(0, 12))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        tokens.append(left + right)
        ranks[f"{left} {right}"] = draw(st.integers(0, 8))
    return ranks


@given(word=st.text("ab", max_size=40), ranks=merge_tables())
def test_equals_the_definition(word: str, ranks: dict[str, int]) -> None:
    assert merge_symbols(list(word), ranks, " ") == merge_by_definition(list(word), ranks)


def test_overlapping_pairs_merge_from_the_left() -> None:
    assert merge_symbols(list("aaaaa"), {"a a": 0}, " ") == ["aa", "aa", "a"]
