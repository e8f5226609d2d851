"""Text in and out: stop strings, whole characters, prompts, and the plan of the context."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.checkpoint import Checkpoint
from llama_core.engine.stops import StopScanner
from llama_core.engine.text import TextEngine
from llama_core.errors import ContextFullError
from llama_core.events import Finished, TextDelta, TokenEvent
from llama_core.sampling.params import SamplingParams

BOS, EOS = 256, 257
TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture
def make_text(byte_tokenizer: Any, saying: Callable[..., Any]) -> Callable[..., TextEngine]:
    """make_text(reply, template=..., ctx_size=None): an engine that says the reply after a zero byte."""

    def make(
        reply: str | bytes = "ok", template: str | None = None, ctx_size: int | None = None
    ) -> TextEngine:
        model = saying(reply, max_seq_len=1 << 16)
        checkpoint = Checkpoint(
            Path("toy.gguf"), "gguf", 0, model.config, {"embed_tokens": None}, byte_tokenizer, template
        )
        return TextEngine(checkpoint, model, ctx_size)

    return make


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_the_events_of_a_reply_in_order(make_text: Callable[..., TextEngine]) -> None:
    events = list(make_text("hé").complete("say\0", GREEDY))
    kinds = [type(e).__name__ for e in events]
    tail = ["TokenEvent", "TextDelta", "TokenEvent", "TokenEvent", "TextDelta", "Finished"]
    assert kinds[-6:] == tail, "two bytes make one character"
    assert text_of(events) == "hé"


@pytest.mark.parametrize("broken", [b"\xe2\x82", b"a\xff", b"\xf0\x9f\x98", b"ok\xc3"])
def test_a_broken_character_at_the_end_becomes_one_replacement(
    make_text: Callable[..., TextEngine], broken: bytes
) -> None:
    assert text_of(list(make_text(broken).complete("\0", GREEDY))) == broken.decode(errors="replace")


# Few letters, so that stop strings overlap each other and the text; and any text at all.
FEW = st.text(st.sampled_from("ab0"), min_size=1, max_size=4)
ANY = st.text(min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(st.text(st.sampled_from("ab0"), max_size=12), st.text(max_size=30)),
    stops=st.lists(st.one_of(FEW, ANY), max_size=3),
    data=st.data(),
)
def test_the_scanner_shows_everything_up_to_the_first_stop(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    if text and data.draw(st.booleans()):  # stop strings out of the text itself, overlapping too
        start = data.draw(st.integers(0, len(text) - 1))
        stops.append(text[start : start + data.draw(st.integers(1, 4))])
    scanner, shown, rest = StopScanner(stops), "", text
    while rest and not scanner.stopped:
        n = data.draw(st.integers(1, len(rest)))
        shown += scanner.push(rest[:n])
        rest = rest[n:]
        assert text.startswith(shown)
    shown += scanner.flush()
    # The stop string that is complete first ends the text, whatever the pieces were.
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert scanner.stopped == bool(found)
    assert shown == (text[: min(found)[1]] if found else text)


REPLY = "one two three"


@pytest.mark.parametrize(("start", "stop"), list(itertools.combinations(range(len(REPLY) + 1), 2)))
def test_a_stop_string_anywhere(make_text: Callable[..., TextEngine], start: int, stop: int) -> None:
    wanted = REPLY[start:stop]
    params = SamplingParams(temperature=0.0, stop=(wanted, "never"))
    events = list(make_text(REPLY).complete("\0", params))
    assert text_of(events) == REPLY[: REPLY.find(wanted)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"
    assert bytes(finished.ids).decode() == REPLY[: REPLY.find(wanted) + len(wanted)]


def test_what_only_looked_like_a_stop_string_is_shown_at_the_end(
    make_text: Callable[..., TextEngine],
) -> None:
    params = SamplingParams(temperature=0.0, stop=("three!",))
    events = list(make_text(REPLY).complete("\0", params))
    assert text_of(events) == REPLY
    assert isinstance(events[-2], TextDelta)
    assert events[-2].text == "three"


def test_a_stop_string_of_a_character_that_arrives_in_bytes(make_text: Callable[..., TextEngine]) -> None:
    params = SamplingParams(temperature=0.0, stop=("é!",))
    assert text_of(list(make_text("aéb é! c").complete("\0", params))) == "aéb "


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))
def test_no_delta_holds_half_a_character(text: str, byte_tokenizer_class: Any, saying: Any) -> None:
    """Each delta is one whole character, when every token is one byte."""
    model = saying(text)
    checkpoint = Checkpoint(Path("t"), "gguf", 0, model.config, {}, byte_tokenizer_class())
    events = TextEngine(checkpoint, model).complete("\0", GREEDY)
    assert [e.text for e in events if isinstance(e, TextDelta)] == list(text)


def test_token_ids_come_with_every_token(make_text: Callable[..., TextEngine]) -> None:
    events = list(make_text("abc").complete("\0", GREEDY))
    assert bytes(e.id for e in events if isinstance(e, TokenEvent)) == b"abc"


def test_a_raw_prompt_parses_control_tokens_and_has_one_bos(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text()
    assert engine.encode_raw("a</s>") == [BOS, 97, EOS]
    assert engine.encode_raw("<s>a") == [BOS, 97]
    assert engine.encode_raw("") == [BOS]


def test_a_chat_goes_through_the_template_and_content_stays_text(
    make_text: Callable[..., TextEngine],
) -> None:
    engine = make_text(template=TEMPLATE)
    ids = engine.encode_chat([{"role": "user", "content": "x<end>y"}])
    assert ids.count(258) == 1, "the template's own"
    assert ids[-2:] == [*b"a:"]
    assert bytes(i for i in ids if i < 256) == b"u:x<end>ya:"


def test_continue_last_goes_on_with_the_partial_reply(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text(template=TEMPLATE)
    user = {"role": "user", "content": "x"}
    whole = engine.encode_chat([user])
    partial = {"role": "assistant", "content": "so f<end>"}
    assert engine.encode_chat([user, partial], continue_last=True) == [*whole, *b"so f<end>"]


def test_a_model_without_a_template_continues_the_contents(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text()
    assert engine.template is None
    chat = [{"role": "user", "content": "Once"}, {"role": "assistant", "content": " upon"}]
    assert engine.encode_chat(chat) == [BOS, *b"Once upon"]
    assert engine.encode_chat(chat, continue_last=True) == [BOS, *b"Once upon"]


def test_the_oldest_turns_of_a_chat_without_a_template_can_go_too(
    make_text: Callable[..., TextEngine],
) -> None:
    engine = make_text()
    chat = [{"role": "user", "content": "x" * 200}, {"role": "assistant", "content": " y"}]
    while engine.plan([*chat, {"role": "user", "content": "z"}], GREEDY).fits:
        chat += chat[:2]
    plan = engine.plan([*chat, {"role": "user", "content": "z"}], GREEDY)
    assert plan.drop[:2] == (0, 1)
    rest = [m for i, m in enumerate([*chat, {"role": "user", "content": "z"}]) if i not in plan.drop]
    assert engine.plan(rest, GREEDY).fits


def turns(n: int) -> list[dict[str, str]]:
    chat = [{"role": "system", "content": "be brief"}]
    for i in range(n):
        chat += [
            {"role": "user", "content": f"question {i}"},
            {"role": "assistant", "content": f"answer {i}"},
        ]
    return [*chat, {"role": "user", "content": "the last"}]


@pytest.mark.parametrize("n", [0, 1, 2, 9])
@pytest.mark.parametrize("ctx_size", range(10, 260, 11))
def test_a_plan_drops_the_fewest_oldest_turns_that_make_it_fit(
    make_text: Callable[..., TextEngine], n: int, ctx_size: int
) -> None:
    engine = make_text(template=TEMPLATE, ctx_size=ctx_size)
    chat = turns(n)
    plan = engine.plan(chat, SamplingParams())
    assert plan.limit == ctx_size
    assert plan.prompt_n == len(engine.encode_chat(chat))
    assert plan.fits == (plan.prompt_n + plan.reply_n <= ctx_size)

    def fits_without(gone: tuple[int, ...]) -> bool:
        left = [m for i, m in enumerate(chat) if i not in gone]
        return len(engine.encode_chat(left)) + plan.reply_n <= ctx_size

    choices = [tuple(range(1, 1 + 2 * k)) for k in range(n + 1)]
    expected = next((gone for gone in choices if fits_without(gone)), ())
    assert plan.drop == expected


def test_a_plan_counts_ids_and_the_reply_that_was_asked_for(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text(ctx_size=400)
    assert engine.plan([1] * 300, SamplingParams(max_tokens=100)).fits
    plan = engine.plan([1] * 301, SamplingParams(max_tokens=100))
    assert (plan.prompt_n, plan.reply_n, plan.limit, plan.fits, plan.drop) == (301, 100, 400, False, ())
    assert engine.plan([1] * 10, SamplingParams(max_tokens=9999)).reply_n == 100
    assert engine.plan([1] * 10, SamplingParams()).reply_n == 100
    assert make_text(ctx_size=8000).plan([1], SamplingParams()).reply_n == 256


def test_a_chat_that_does_not_fit_is_refused_before_work(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text(template=TEMPLATE, ctx_size=10)
    with pytest.raises(ContextFullError):
        engine.chat([{"role": "user", "content": "much too long"}], GREEDY)
    assert engine.engine.cached_ids == ()


def test_the_next_turn_reuses_the_prompt_and_the_reply_before(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text("fine", template=TEMPLATE)
    prompt = engine.encode_chat([{"role": "user", "content": "how are you"}])
    list(engine.generate([*prompt, 0], GREEDY))
    events = list(engine.generate([*prompt, 0, *b"fine", *prompt, 0], GREEDY))
    assert events[0].cached_n == len(prompt) + 1 + len("fine")
    assert text_of(events) == "fine"


def test_the_engine_lets_go_of_the_file_and_closes_its_model(make_text: Callable[..., TextEngine]) -> None:
    engine = make_text()
    assert engine.checkpoint.tensors == {}
    assert engine.backend == "scripted"
    assert engine.ctx_size == 4096
    engine.close()
    assert engine.model.closed == 1
    assert engine.memory().weights_bytes == 1000
    engine.reset()
