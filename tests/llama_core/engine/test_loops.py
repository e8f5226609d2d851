"""Loops in a reply: noticed where they begin, and nothing that was asked for is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_core.checkpoint import Checkpoint
from llama_core.engine.loops import LEAST_TOKENS, LoopWatch
from llama_core.engine.text import TextEngine
from llama_core.events import Finished, LoopFound, TokenEvent
from llama_core.sampling.params import SamplingParams

ROUNDS = 4


def watch(ids: Iterable[int], rounds: int = ROUNDS) -> LoopFound | None:
    looking = LoopWatch(rounds)
    for token_id in ids:
        looking.push(token_id)
    return looking.found


@pytest.mark.parametrize("span_n", [1, 2, 3, 5, 17, 43, 100, 300])
@pytest.mark.parametrize("before", [0, 3, 200])
def test_a_loop_is_found_where_it_begins(span_n: int, before: int) -> None:
    lead = [10_000 + n for n in range(before)]
    span = [n * n % 971 for n in range(span_n)]
    found = watch(lead + span * (LEAST_TOKENS + 10))
    assert found is not None
    assert found.span_n == span_n
    assert found.rounds == max(ROUNDS, -(-LEAST_TOKENS // span_n))
    assert found.begin == before + span_n, "the second time is where it repeats itself"


def test_a_span_that_repeats_a_part_of_itself_is_one_span() -> None:
    part = [1, 2, 3, 4, 5]
    span = [*part, *range(20, 40), *part, *range(40, 60), *part, 99]
    found = watch(span * 8)
    assert found is not None
    assert (found.span_n, found.begin) == (len(span), len(span))


@pytest.mark.parametrize("rounds", [3, 4, 8])
def test_one_round_fewer_is_no_loop(rounds: int) -> None:
    span = list(range(100))
    assert watch(span * rounds, rounds) is not None
    assert watch(span * (rounds - 1) + [7], rounds) is None
    assert watch(span * 50, 0) is None


def words(text: str) -> list[int]:
    """A token a word or sign, as near to real tokens as a test needs."""
    known: dict[str, int] = {}
    parts = text.replace("\n", " \n ").replace("|", " | ").replace(",", " , ").replace("(", " ( ").split(" ")
    return [known.setdefault(part, len(known)) for part in parts if part]


@pytest.mark.parametrize(
    "text",
    [
        "ha " * 100,
        "-----" + " -" * 120,
        "| --- " * 30 + "|\n" + "| 0 | 0 | 0 |\n" * 12,
        "\n".join(f"| row {n} | {n * n} | {n + 1} | yes |" for n in range(300)),
        "\n".join(f"{n}. item {n}" for n in range(400)),
        "int table[64] = {" + "0, " * 64 + "};",
        "\n".join(f"    def method_{n}(self):\n        return self.value_{n}\n" for n in range(100)),
        ("And the chorus goes round and round\nround and round all day\n" * 3 + "a verse that differs {}\n")
        * 2,
        "<tr><td>0</td><td>0</td></tr>\n" * 20,
    ],
)
def test_what_may_be_asked_for_is_no_loop(text: str) -> None:
    assert watch(words(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "The sea is a place of wonder and delight\nwhere waves do dance and stars do shine at night\n" * 12,
        "I hope this helps! Let me know if you have any other questions.\n\n" * 20,
        "ha " * 400,
    ],
)
def test_what_goes_on_and_on_is_one(text: str) -> None:
    assert watch(words(text)) is not None


# Of SmolLM2-135M-Instruct at temperature 0, at most 900 tokens; where a person sees the loop begin.
REPLIES = json.loads(Path(__file__).with_name("smollm2_replies.json").read_text(encoding="utf-8"))
SEEN = {
    "Write a poem about the sea.": (63, 35),
    "Tell me a long story about a dragon.": (441, 20),
    "Make a table of the planets with mass, radius and moons.": (222, 101),
    "Write a Python class for a stack, a queue and a linked list with docstrings.": (215, 138),
    "Say ha ha ha fifty times.": (68, 20),
    "Continue: All work and no play makes Jack a dull boy.": (23, 18),
}


@pytest.mark.parametrize("reply", REPLIES, ids=[one["prompt"] for one in REPLIES])
def test_replies_of_the_default_model(reply: dict[str, Any]) -> None:
    """Half of them loop, and only they are stopped: a list of a hundred, code and tables are let be."""
    found = watch(reply["ids"])
    seen = SEEN.get(reply["prompt"])
    assert (None if found is None else (found.begin, found.span_n)) == seen


@given(st.lists(st.integers(0, 3), max_size=300))
def test_the_rule_against_a_slow_look(ids: list[int]) -> None:
    found = watch(ids)
    if found is not None:
        repeated = found.rounds * found.span_n
        assert repeated >= LEAST_TOKENS
        whole = ids[found.begin - found.span_n :][:repeated]
        assert whole == whole[: found.span_n] * found.rounds


@pytest.fixture
def make(byte_tokenizer: Any, scripted: Any) -> Callable[..., TextEngine]:
    def make() -> TextEngine:
        span = b"and again, "

        def script(ids: Sequence[int]) -> int:
            return span[(len(ids) - 4) % len(span)]

        model = scripted(script, max_seq_len=1024)
        checkpoint = Checkpoint(
            Path("toy.gguf"), "gguf", 0, model.config, {"embed_tokens": None}, byte_tokenizer, None
        )
        return TextEngine(checkpoint, model)

    return make


def test_a_looping_reply_ends_and_says_where(make: Callable[..., TextEngine]) -> None:
    events = list(make().complete("so", SamplingParams(temperature=0.0, loop_rounds=ROUNDS)))
    found, finished = events[-2:]
    assert isinstance(found, LoopFound)
    assert isinstance(finished, Finished)
    assert (finished.reason, found.span_n, found.begin) == ("loop", 11, 11)
    assert len(finished.ids) == found.rounds * found.span_n
    assert len([one for one in events if isinstance(one, TokenEvent)]) == len(finished.ids)


@pytest.mark.parametrize("params", [{}, {"loop_rounds": ROUNDS, "ignore_eos": True}])
def test_nobody_is_stopped_who_did_not_ask(make: Callable[..., TextEngine], params: dict[str, Any]) -> None:
    events = list(make().complete("so", SamplingParams(temperature=0.0, max_tokens=500, **params)))
    assert events[-1].reason == "length"
    assert not [one for one in events if isinstance(one, LoopFound)]
