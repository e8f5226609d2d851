"""Replies under a grammar: alone, with guesses, in company; the same tokens each way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.constraints.grammar import Grammar
from llama_core.constraints.guidance import GuidanceGrammars
from llama_core.engine.batch.request import BatchRequest
from llama_core.engine.batch.scheduler import BatchEngine
from llama_core.engine.engine import Engine
from llama_core.engine.load import load_engine
from llama_core.engine.rules import TokenRules
from llama_core.errors import GrammarError
from llama_core.sampling.params import SamplingParams
from tests.support.luck import SEED
from tests.support.tiny_chat import write_tiny_chat

pytest.importorskip("llguidance")

EOS, END = 257, 258
ENDS = frozenset({EOS, END})
PROMPT = [*b"question", 0]
SCHEMA = Grammar(
    "schema",
    '{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string", "maxLength": 8},'
    ' "l": {"type": "array", "items": {"enum": ["x", "yy"]}, "maxItems": 3}}, "required": ["n", "s", "l"]}',
)
LINES = Grammar("regex", "([a-c]+[0-9]{2}\n){3,6}")


@pytest.fixture
def grammars(byte_tokenizer: Any) -> GuidanceGrammars:
    return GuidanceGrammars(byte_tokenizer, 260)


def table(scripted: Callable[..., Any]) -> Callable[[], Any]:
    """Models that answer with a row of one random table, by the last token."""
    rows = (np.random.default_rng(SEED).standard_normal((260, 260)) * 3).astype(np.float32)
    return lambda: scripted(lambda ids: rows[ids[-1]])


class Echo:
    """Guesses what `reply` says, wrong at every fourth place, and goes on beyond its end with end tokens."""

    def __init__(self, reply: Sequence[int]) -> None:
        self.reply = [*reply, EOS, EOS]

    def start(self, ids: Sequence[int]) -> None:
        self.first = len(ids)

    def propose(self, ids: Sequence[int], limit: int, cancelled: Any = None) -> list[int]:
        place = len(ids) - self.first
        guesses = self.reply[place : place + 5]
        return [ord("?") if (place + i) % 4 == 3 else one for i, one in enumerate(guesses)][:limit]

    def observe(self, drafted_n: int, accepted_n: int, step_s: float) -> None:
        """Nothing is learned."""


@pytest.mark.parametrize("grammar", [SCHEMA, LINES], ids=["schema", "regex"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_tokens_alone_with_guesses_and_in_company(
    scripted: Callable[..., Any], grammars: GuidanceGrammars, grammar: Grammar, temperature: float
) -> None:
    make = table(scripted)
    params = SamplingParams(temperature=temperature, seed=3, max_tokens=300, repeat_penalty=1.3)

    def reply(drafter: Any = None) -> Any:
        rules = TokenRules(constraint=grammars.begin(grammar, ENDS))
        events = Engine(make(), drafter=drafter).generate(PROMPT, params, stop_ids=ENDS, rules=rules)
        return list(events)[-1]

    plain = reply()
    # The text is what the grammar says, or its beginning where it had to be cut.
    check = grammars.begin(grammar, ENDS)
    for token in plain.ids:
        check.take(token)
    assert (plain.reason == "stop") == (check.complete or bool(check.allowed()[EOS]))
    drafted = reply(Echo(plain.ids))
    assert drafted.ids == plain.ids
    assert drafted.reason == plain.reason
    assert drafted.timings.draft_accepted_n > len(plain.ids) // 4
    free = SamplingParams(temperature=1.0, max_tokens=40, seed=9)
    batch = BatchEngine(make(), kv_budget_bytes=1 << 20)
    requests = [
        BatchRequest(
            str(i), tuple(PROMPT), params, ENDS, rules=TokenRules(constraint=grammars.begin(grammar, ENDS))
        )
        for i in range(3)
    ]
    requests.insert(1, BatchRequest("free", tuple(PROMPT), free, ENDS))
    results = {result.key: result for result in batch.run(requests)}
    assert [results[str(i)].ids for i in range(3)] == [plain.ids] * 3
    assert [results[str(i)].reason for i in range(3)] == [plain.reason] * 3
    alone = list(Engine(make()).generate(PROMPT, free, stop_ids=ENDS))[-1]
    assert results["free"].ids == alone.ids
    batch.close()


def test_a_reply_that_is_whole_ends_without_another_pass(
    scripted: Callable[..., Any], grammars: GuidanceGrammars
) -> None:
    model = table(scripted)()
    rules = TokenRules(constraint=grammars.begin(Grammar("regex", "ab"), ENDS))
    finished = list(Engine(model).generate(PROMPT, SamplingParams(), rules=rules))[-1]
    assert (bytes(finished.ids), finished.reason) == (b"ab", "stop")
    assert sum(map(len, model.passes)) == len(PROMPT) + 1
    empty = TokenRules(constraint=grammars.begin(Grammar("regex", ""), ENDS))
    finished = list(
        Engine(table(scripted)()).generate(PROMPT, SamplingParams(max_tokens=3), stop_ids=ENDS, rules=empty)
    )[-1]
    assert (finished.ids, finished.reason) == ((), "stop")


def test_where_nothing_goes_on_the_reply_fails_and_the_engine_goes_on(scripted: Callable[..., Any]) -> None:
    class Stuck:
        complete = False

        def allowed(self) -> Any:
            raise GrammarError("nothing goes on")

    engine = Engine(table(scripted)())
    rules: Any = TokenRules(constraint=Stuck())  # type: ignore[arg-type]
    with pytest.raises(GrammarError, match="nothing goes on"):
        list(engine.generate(PROMPT, SamplingParams(), rules=rules))
    assert list(engine.generate(PROMPT, SamplingParams(max_tokens=2)))[-1].reason == "length"
    batch = BatchEngine(table(scripted)(), kv_budget_bytes=1 << 20)
    good = BatchRequest("good", tuple(PROMPT), SamplingParams(max_tokens=4))
    bad = BatchRequest("bad", tuple(PROMPT), SamplingParams(max_tokens=4), rules=rules)
    results = {result.key: result for result in batch.run([bad, good])}
    assert (results["bad"].reason, results["good"].reason) == ("failed", "length")
    assert "nothing goes on" in str(results["bad"].error)


def test_a_real_model_is_held_alike_with_and_without_prompt_lookup(
    tmp_path: Path, kernel_cache: Path
) -> None:
    """Compiled and in NumPy; a list of the same few words, which prompt lookup guesses."""
    path = write_tiny_chat(tmp_path / "tiny.gguf")
    schema = {"type": "array", "items": {"enum": ["the one", "the two"]}, "minItems": 12, "maxItems": 12}
    params = SamplingParams(temperature=0.0, max_tokens=400, grammar=Grammar("schema", json.dumps(schema)))
    for backend in ("jit", "numpy"):
        engine = load_engine(path, backend=backend, threads=1, kernel_cache=kernel_cache)  # type: ignore[arg-type]
        prompt = engine.encode_chat([{"role": "user", "content": '["the one", "the two", "the one"]'}])
        drafter = engine.engine.drafter
        replies = []
        for own in (None, drafter, Echo(())):
            if isinstance(own, Echo):
                own.reply = [*replies[0].ids, EOS]
            engine.engine.drafter = own
            replies.append(list(engine.generate(prompt, params))[-1])
        engine.engine.drafter = drafter
        engine.close()
        if backend == "jit":  # NumPy's products depend on the number of rows, in the last digits
            assert len({reply.ids for reply in replies}) == 1
        for reply in replies:
            assert reply.reason == "stop"
            assert set(json.loads(engine.tokenizer.decode(reply.ids))) <= {"the one", "the two"}
        assert replies[2].timings.draft_accepted_n > 20
