"""The local engine behind the protocol: prompts made once, ids kept, a system prompt in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_app.config.settings import Settings
from chat_app.engines.base import Engine, PromptRequest, Turn
from chat_app.engines.local import LocalEngine, open_text_engine
from chat_app.models import drafts
from chat_app.text.errors import describe_error
from llama_core.constraints.grammar import Grammar
from llama_core.engine.drafting import attach
from llama_core.engine.load import load_engine
from llama_core.engine.text import TextEngine
from llama_core.errors import NotEnoughMemoryError, TemplateError
from llama_core.events import Finished
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.templates.chat_template import SYSTEM_FOLDED

PARAMS = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[Any]:
    text_engine = load_engine(tiny_model, backend="numpy", threads=1)
    yield LocalEngine(text_engine, tiny_model)
    text_engine.close()


def ask(*turns: Turn, **more: Any) -> PromptRequest:
    return PromptRequest(turns, PARAMS, **more)


def answer(engine: Engine, request: PromptRequest) -> tuple[list[int], Finished]:
    prompt = engine.prepare(request)
    *_, last = engine.stream(prompt, PARAMS, cancelled=lambda: False)
    assert isinstance(last, Finished)
    return list(prompt.ids or ()), last


def test_a_prompt_that_fits_is_rendered_and_encoded_once(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, rendered = engine._engine.template, []
    render = template.render
    monkeypatch.setattr(template, "render", lambda *a, **k: rendered.append(a) or render(*a, **k))
    assert engine.prepare(ask(Turn("user", "hello"))).fits
    assert len(rendered) == 1


def test_a_reply_goes_on_from_its_own_tokens(engine: Any) -> None:
    prompt_ids, first = answer(engine, ask(Turn("user", "hello")))
    text = engine.tokens.decode(first.ids)
    going_on = ask(Turn("user", "hello"), Turn("assistant", text, first.ids), continue_last=True)
    assert list(engine.prepare(going_on).ids) == [*prompt_ids, *first.ids]
    # Ids that say something else, as of another model, are not believed; nor are ids beyond the vocabulary.
    for other in ((5, 6), (10**6,)):
        changed = ask(Turn("user", "hello"), Turn("assistant", "the", other), continue_last=True)
        assert list(engine.prepare(changed).ids) == [*prompt_ids, *engine.tokens.encode("the")]


def test_replies_in_the_prompt_keep_their_tokens(engine: Any) -> None:
    """Three tokens that spell "the" are sent again as three, not as the tokenizer's one."""
    split = tuple(engine.tokens.encode(letter)[0] for letter in "the")
    assert engine.tokens.encode("the") != list(split)
    before = engine.prepare(ask(Turn("user", "hello"))).ids
    said = [Turn("user", "hello"), Turn("assistant", "the", split)]
    for _ in range(2):  # the second time from memory
        prompt = engine.prepare(ask(*said, Turn("user", "more"))).ids
        assert prompt[: len(before) + 3] == (*before, *split)
        again = engine.prepare(
            ask(*said, Turn("user", "more"), Turn("assistant", "the", split), Turn("user", "x"))
        )
        assert again.ids[: len(prompt) + 3] == (*prompt, *split)
        # All else is as the template has it.
        plain = engine.prepare(ask(Turn("user", "hello"), Turn("assistant", "the"), Turn("user", "more"))).ids
        rest = len(before) + 1
        assert prompt[len(before) + 3 :] == plain[rest:]


def test_the_next_prompt_reuses_the_whole_reply(engine: Any) -> None:
    prompt_ids, first = answer(engine, ask(Turn("user", "hello")))
    said = Turn("assistant", engine.tokens.decode(first.ids), first.ids)
    _, second = answer(engine, ask(Turn("user", "hello"), said, Turn("user", "more")))
    assert second.timings.cache_n >= len(prompt_ids) + len(first.ids) - 1


def test_a_reply_that_the_template_changes_is_left_as_it_is(engine: Any) -> None:
    engine._engine.template.source = TURNS.replace("m['content']", "m['content'] | upper")
    split = tuple(engine.tokens.encode(letter)[0] for letter in "the")
    turns = [Turn("user", "hello"), Turn("assistant", "the"), Turn("user", "more")]
    known = [turns[0], Turn("assistant", "the", split), turns[2]]
    assert engine.prepare(ask(*known)).ids == engine.prepare(ask(*turns)).ids


def test_what_must_be_dropped_leaves_the_system_prompt_and_the_last_question(engine: Any) -> None:
    turns = [Turn("system", "s")]
    for number in range(6):
        turns += [Turn("user", f"{number}" * 60), Turn("assistant", f"{number}" * 30)]
    request = ask(*turns, Turn("user", "last " * 10))
    prompt = engine.prepare(request)
    assert not prompt.fits
    assert prompt.drop == tuple(range(1, len(prompt.drop) + 1))
    assert turns[len(prompt.drop) + 1].role == "user"
    assert engine.prepare(request.without(prompt.drop)).fits
    assert not engine.prepare(request.without(prompt.drop[:-2])).fits  # no turn too many
    assert engine.prepare(ask(Turn("user", "x" * 5000))).drop == ()  # nothing helps


REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
IGNORES = TURNS.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


@pytest.mark.parametrize("source", [REFUSES + TURNS, IGNORES], ids=["refuses", "ignores"])
def test_a_system_prompt_is_put_before_the_first_question(engine: Any, source: str) -> None:
    engine._engine.template.source = source
    said = [Turn("user", "hello"), Turn("assistant", "hi"), Turn("user", "more")]
    prompt = engine.prepare(ask(Turn("system", "Be brief."), *said))
    assert prompt.notes == (SYSTEM_FOLDED,)
    merged = [Turn("user", "Be brief.\nhello"), *said[1:]]
    assert prompt.ids == engine.prepare(ask(*merged)).ids
    assert engine.prepare(ask(*said)).notes == ()


def test_a_template_with_a_system_role_is_left_alone(engine: Any) -> None:
    prompt = engine.prepare(ask(Turn("system", "Be brief."), Turn("user", "hello")))
    assert prompt.notes == ()
    assert prompt.ids != engine.prepare(ask(Turn("user", "Be brief.\nhello"))).ids


def test_another_fault_of_a_template_is_told(engine: Any) -> None:
    engine._engine.template.source = "{{ raise_exception('never') }}"
    with pytest.raises(TemplateError, match="never"):
        engine.prepare(ask(Turn("system", "s"), Turn("user", "hello")))


def test_what_a_held_reply_may_go_on_with(engine: Any) -> None:
    pytest.importorskip("llguidance")
    mask = engine.tokens.allowed(Grammar("regex", "no|yes"), [5, 6], [])
    assert mask is not None
    allowed = {one.text for one in engine.tokens.describe(np.flatnonzero(mask).tolist())}
    assert allowed == {"n", "y"}
    after = engine.tokens.allowed(Grammar("regex", "no|yes"), [5, 6], engine.tokens.encode("n"))
    assert after is not None
    assert after.sum() == 1
    assert engine.tokens.allowed(Grammar("regex", "no|yes"), [5, 6], engine.tokens.encode("no")) is None


@pytest.mark.parametrize("error", [NotEnoughMemoryError("The draft", 9, 5, "take less"), MemoryError()])
def test_a_known_draft_that_cannot_guess_says_why_and_the_model_is_opened_all_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(attach, "add_draft_model", fails)
    monkeypatch.setattr(drafts, "find_draft", lambda wanted, path: Path("models") / "small-one.gguf")
    monkeypatch.setattr(TextEngine, "backend", "jit")
    settings, notes = Settings(backend="numpy", threads=1), []
    open_text_engine(tiny_model, settings, lambda progress: notes.append(progress.note)).close()
    assert [note for note in notes if note] == [
        f"small-one does not guess ahead: {describe_error(error)}",
    ]
    with pytest.raises(type(error)):
        open_text_engine(tiny_model, replace(settings, draft="small-one"), print)


def test_why_a_token_was_not_drawn(engine: Any) -> None:
    """By the reply's own filters, behind its penalties and what it is held to."""
    prompt = engine.prepare(ask(Turn("user", "hello"))).ids
    logits = engine.tokens.logits(prompt)
    best, second, third = np.argsort(-logits, kind="stable")[:3].tolist()
    among = [best, second, third]
    params = SamplingParams(top_k=2, top_p=1.0, dry_multiplier=1.0)
    assert engine.tokens.cut_by(params, logits, prompt, (), among, None) == ("", "", "top_k")
    held = replace(params, grammar=Grammar("regex", "[a-z]+"))
    allowed = np.ones(len(logits), dtype=bool)
    allowed[best] = False
    assert engine.tokens.cut_by(held, logits, prompt, (), among, allowed) == ("mask", "", "")
    # What was said counts as the sampler counted it.
    shy = SamplingParams(top_k=1, frequency_penalty=2.0)
    said = (best,) * 50
    assert engine.tokens.cut_by(shy, logits, prompt, said, among, None) == ("top_k", "", "top_k")
