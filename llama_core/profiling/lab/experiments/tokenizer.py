"""Experiment 3: looking up and merging tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from llama_core.profiling.lab.experiment import FASTER, Case, Claim, Experiment, LabContext, Row, same
from llama_core.profiling.lab.experiments import texts
from llama_core.tokenizers.spm_bpe import SPACE

# A run of list.index over 94 characters takes a good part of a second, and grows with the square: longer
# texts would take minutes and hours. So many of their merges are measured, on both sides.
LIST_SIZES = (11, 94)
FIRST_MERGES = {1_000: 10, 10_000: 2}
DUPLICATES = 2_000
LIST_WHY = "a list is searched from its start for each pair of neighbours, a dict is asked once"


def chosen(context: LabContext) -> texts.Scored:
    """The vocabulary of the file given, else the made-up one. Raises ModelFormatError, OSError."""
    if context.tokenizer_path is None:
        return texts.vocabulary()
    return texts.real_vocabulary(context.tokenizer_path)


def cases(context: LabContext) -> Iterator[Case]:
    """The rows, in order; models and arrays are made as they are asked for."""
    scored = chosen(context)
    by_list, by_dict = texts.list_tokenizer(scored), texts.dict_tokenizer(scored)
    cached, uncached = texts.engine_tokenizer(scored), texts.engine_tokenizer(scored, cached=False)
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
            why=LIST_WHY,
        )
    for n, merges in FIRST_MERGES.items():
        spaced = texts.text_of(n).replace(" ", SPACE)
        yield Case(
            name=f"{n:,} characters, the first {merges} merges: dict instead of list.index",
            before=partial(by_list.encode, spaced, merges),
            after=partial(by_dict.encode, spaced, merges),
            claim=Claim(10.0),
            check=same,
            work=merges,
            unit="merge",
            min_pairs=3,
            why=LIST_WHY,
        )
    for n in (*LIST_SIZES, *FIRST_MERGES):
        text = texts.text_of(n)
        spaced = text.replace(" ", SPACE)
        yield Case(
            name=f"{n:,} characters: heap instead of rescans",
            before=partial(by_dict.encode, spaced),
            after=partial(uncached.encode, text),
            claim=FASTER if n < 100 else Claim(5.0),
            check=same,
            work=n,
            unit="char",
            headline=n == 10_000,
            min_pairs=3,
            why="a heap gives the best pair at once; a rescan looks at all that are left after every merge",
        )
        yield Case(
            name=f"{n:,} characters, words seen before: cache of pieces beside the heap",
            before=partial(uncached.encode, text),
            after=partial(cached.encode, text),
            check=same,
            work=n,
            unit="char",
            why="a piece that was cut before is looked up whole; nothing of it is merged again",
        )
    if context.tokenizer_path is not None:
        return  # a real vocabulary has its own duplicates
    twice = texts.vocabulary(DUPLICATES)
    engine = texts.engine_tokenizer(twice, cached=False)
    for n, name, first in (
        (94, "list.index", texts.list_tokenizer(twice)),
        (1_000, "dict and rescans", texts.dict_tokenizer(twice)),
    ):
        text = texts.text_of(n)
        yield Case(
            name=f"{n:,} characters, {DUPLICATES:,} duplicates in the vocabulary: engine instead of {name}",
            before=partial(first.encode, text.replace(" ", SPACE)),
            after=partial(engine.encode, text),
            claim=Claim(10.0),
            check=same,
            work=n,
            unit="char",
            min_pairs=5,
            why="the engine asks a dict and takes the best pair from a heap, duplicates or not",
        )


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """How the time of list.index grows, and how long whole texts would take."""
    path = context.tokenizer_path
    sentences = [] if path is None else [texts.duplicates_sentence(path.name, chosen(context)[0])]
    of_list = [row for row in rows if "dict instead of list.index" in row.name and row.before_s]
    whole = {row.work: row.before_s.median for row in of_list if row.unit == "char" and row.before_s}
    small, large = LIST_SIZES
    if small in whole and large in whole:
        growth = whole[large] / whole[small]
        sentences.append(f"list.index: {large / small:.1f} times the text took {growth:.0f} times as long")
    for n, merges in FIRST_MERGES.items():
        for row in of_list:
            if row.name.startswith(f"{n:,} characters, the first") and row.before_s:
                sentences.append(_whole_text(n, merges, row.before_s.median, chosen(context)))
    return sentences


def _whole_text(n: int, merges: int, seconds: float, scored: texts.Scored) -> str:
    """From the time of the first merges, each of which looks up every pair that is left."""
    n_ids = len(texts.engine_tokenizer(scored).encode(texts.text_of(n)))
    all_merges = n - n_ids
    minutes = seconds / (merges * n) * all_merges * (n + n_ids) / 2 / 60
    return (
        f"list.index, {n:,} characters: {merges} merges took {seconds:.1f} s; all {all_merges:,}, over ever "
        f"fewer pairs, would take about {minutes:,.0f} minutes (computed, not measured)"
    )


EXPERIMENT = Experiment(
    number=3,
    name="tokenizer",
    title="Tokeniser: list.index, dict, heap, cache of pieces",
    hypothesis="Looking a token up in a list and searching all pairs again after every merge makes encoding "
    "quadratic; a dict removes the first cost (at least 10x at every length), a heap over a linked list the "
    "second (faster even at 11 characters, at least 5x from 1,000 on); on words seen before a cache of "
    "pieces is faster still; with both and no cache the engine is at least 10x as fast as a first version on "
    "a vocabulary with duplicates",
    refuted_if="any ids differ (duplicates included), a dict brings less than 10x, a heap is slower at 11 or "
    "94 characters or brings less than 5x from 1,000 on, the cache is slower on words seen before, or the "
    "engine brings less than 10x with duplicates",
    cases=cases,
    conclude=conclude,
    processes=2,
)
