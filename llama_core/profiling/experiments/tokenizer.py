"""Experiment 3: looking up and merging tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from llama_core.profiling.experiment import Case, Claim, Experiment, LabContext, NotMeasured, Row, same
from llama_core.profiling.experiments import texts
from llama_core.tokenizers.spm_bpe import SPACE

# A run of list.index over 94 characters takes a good part of a second, and grows with the square.
LIST_SIZES = (11, 94)
TOO_LONG = (1_000, 10_000)
DUPLICATES = 2_000


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    by_list, by_dict = texts.list_tokenizer(), texts.dict_tokenizer()
    cached, uncached = texts.engine_tokenizer(), texts.engine_tokenizer(cached=False)
    for n in LIST_SIZES:
        text = texts.text_of(n)
        spaced = text.replace(" ", SPACE)
        yield Case(
            name=f"{n} characters: dict instead of list.index",
            before=partial(by_list.encode, spaced),
            after=partial(by_dict.encode, spaced),
            claim=Claim(10.0),
            check=same,
            work=n,
            unit="char",
            headline=n == 94,
            min_pairs=5,
        )
    for n in TOO_LONG:
        yield NotMeasured(
            f"{n:,} characters: dict instead of list.index",
            f"a run would take about {(n / 94) ** 2:,.0f} times that of 94 characters",
        )
    for n in (*LIST_SIZES, *TOO_LONG):
        text = texts.text_of(n)
        spaced = text.replace(" ", SPACE)
        yield Case(
            name=f"{n:,} characters: heap instead of rescans",
            before=partial(by_dict.encode, spaced),
            after=partial(uncached.encode, text),
            claim=Claim(1.0) if n < 100 else Claim(5.0),
            check=same,
            work=n,
            unit="char",
            headline=n == 10_000,
            min_pairs=3,
        )
        yield Case(
            name=f"{n:,} characters: cache of pieces beside the heap",
            before=partial(uncached.encode, text),
            after=partial(cached.encode, text),
            check=same,
            work=n,
            unit="char",
            headline=n == 1_000,
        )
    text = texts.text_of(94)
    yield Case(
        name=f"94 characters, {DUPLICATES:,} duplicates in the vocabulary: engine instead of list.index",
        before=partial(texts.list_tokenizer(DUPLICATES).encode, text.replace(" ", SPACE)),
        after=partial(texts.engine_tokenizer(DUPLICATES).encode, text),
        claim=Claim(10.0),
        check=same,
        work=94,
        unit="char",
        min_pairs=5,
    )


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """How the time of list.index grows."""
    times = {row.work: row.before_s.median for row in rows if "list.index" in row.name and row.before_s}
    small, large = LIST_SIZES
    if small not in times or large not in times:
        return []
    growth = times[large] / times[small]
    seconds = times[large] * (10_000 / large) ** 2
    grown = f"{large / small:.1f} times the text took {growth:.0f} times as long"
    return [f"list.index: {grown}; at that pace 10,000 characters would take {seconds / 60:,.0f} minutes"]


EXPERIMENT = Experiment(
    number=3,
    name="tokenizer",
    title="Tokeniser: list.index, dict, heap, cache of pieces",
    hypothesis="Looking a token up in a list and searching all pairs again after every merge makes encoding "
    "quadratic; a dict removes the first cost, a heap over a linked list the second, a cache of "
    "pieces most of what is left",
    refuted_if="any ids differ (duplicates included), a dict brings less than 10x, a heap less than 5x from "
    "1,000 characters on, or the cache nothing",
    cases=cases,
    conclude=conclude,
)
