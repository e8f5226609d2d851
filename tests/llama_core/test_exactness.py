"""The default model against an independent float32 implementation: tokens, logits, likelihoods."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core import load_engine
from llama_core.backends.numpy.model import Llama
from llama_core.engine.text import TextEngine
from llama_core.errors import Cancelled
from llama_core.events import Finished, TextDelta
from llama_core.sampling.params import SamplingParams

pytestmark = pytest.mark.model
CHATS = range(8)


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Iterator[TextEngine]:
    # One thread: under a busy neighbour two threads of the BLAS wait for each other most of the time.
    engine = load_engine(default_model, backend="numpy", threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def chats(shared_reference: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((shared_reference / "greedy.json").read_text())["items"]
    assert len(items) == len(CHATS)
    return items


def greedy_reply(engine: TextEngine, chat: dict[str, Any]) -> list[int]:
    params = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
    finished = list(engine.generate(chat["prompt_ids"], params))[-1]
    assert isinstance(finished, Finished)
    return list(finished.ids)


def test_greedy_tokens_for_64_steps(engine: TextEngine, chats: list[dict[str, Any]]) -> None:
    """Not one of the margins on this path is below 1e-3, so that not one token may differ. The other chats'
    replies are checked below, in passes of many tokens."""
    assert greedy_reply(engine, chats[0]) == chats[0]["greedy_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("n", CHATS)
def test_greedy_tokens_of_every_chat(engine: TextEngine, chats: list[dict[str, Any]], n: int) -> None:
    assert greedy_reply(engine, chats[n]) == chats[n]["greedy_ids"]


@pytest.mark.parametrize("n", CHATS)
def test_the_likeliest_token_behind_each_of_a_greedy_reply(
    engine: TextEngine, chats: list[dict[str, Any]], n: int
) -> None:
    """The replies of all chats in passes of many tokens: after each token the next one is the likeliest."""
    chat = chats[n]
    assert min(chat["top1_minus_top2"]) > 1e-3
    prompt, reply = chat["prompt_ids"], chat["greedy_ids"]
    cache = engine.model.new_cache(len(prompt) + len(reply))
    engine.model.forward(np.array(prompt[:-1], np.int32), cache, logits="none")
    rows = engine.model.forward(np.array([prompt[-1], *reply[:-1]], np.int32), cache, logits="all")
    assert rows.argmax(axis=1).tolist() == reply


@pytest.mark.parametrize("n", CHATS)
def test_the_template_and_the_tokenizer(engine: TextEngine, chats: list[dict[str, Any]], n: int) -> None:
    chat = chats[n]
    assert engine.template is not None
    assert engine.template.render(chat["messages"]) == chat["rendered"]
    assert engine.encode_chat(chat["messages"]) == chat["prompt_ids"]
    assert engine.encode_raw(chat["rendered"]) == chat["prompt_ids"]
    assert engine.tokenizer.decode(chat["greedy_ids"][: chat["first_eos_at"]]) == chat["text"]


def test_a_chat_as_a_user_has_it(engine: TextEngine, chats: list[dict[str, Any]]) -> None:
    """Messages in, text out, ended by the model's own end token."""
    chat = min(chats, key=lambda chat: chat["first_eos_at"] or 64)
    end = chat["first_eos_at"]
    assert end is not None
    events = list(engine.chat(chat["messages"], SamplingParams(temperature=0.0)))
    assert events[-1].reason == "stop"
    assert list(events[-1].ids) == chat["greedy_ids"][:end]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == chat["text"]


@pytest.mark.parametrize("n", CHATS)
def test_the_top_20_logits_after_the_prompt(engine: TextEngine, chats: list[dict[str, Any]], n: int) -> None:
    chat = chats[n]
    engine.reset()
    logits = engine.engine.prompt_logits(chat["prompt_ids"])
    np.testing.assert_allclose(logits[chat["top20_ids"]], chat["top20_logits"], atol=1e-3, rtol=0)
    assert np.sort(logits)[-20] == pytest.approx(min(chat["top20_logits"]), abs=1e-3)


def test_token_by_token_equals_chunks(engine: TextEngine, chats: list[dict[str, Any]]) -> None:
    """The prompt in one pass and in passes of one token: the same top 20 within 1e-3."""
    assert isinstance(engine.model, Llama)
    ids = np.array(chats[0]["prompt_ids"], np.int32)
    cache = engine.model.new_cache(256)
    for token in ids:
        logits = engine.model.forward(np.array([token], np.int32), cache)
    np.testing.assert_allclose(logits[chats[0]["top20_ids"]], chats[0]["top20_logits"], atol=1e-3)


def test_perplexity(engine: TextEngine, shared_reference: Path) -> None:
    """Of the text's beginning, as the engine had it when all of the text agreed with the oracle to 1e-6."""
    ids = json.loads((shared_reference / "perplexity.json").read_text())["ids"]
    assert engine.perplexity(ids[:300]) == pytest.approx(3.041258, abs=1e-3)


@pytest.mark.slow
def test_perplexity_of_2000_tokens(engine: TextEngine, shared_reference: Path) -> None:
    given = json.loads((shared_reference / "perplexity.json").read_text())
    assert engine.perplexity(given["ids"]) == pytest.approx(given["oracle_mean_nll"], abs=1e-3)


def test_one_float32_copy_of_the_weights(engine: TextEngine) -> None:
    """134.5 million numbers, four bytes each, and nothing of the file."""
    report = engine.memory()
    assert report.weights_bytes == 134_515_008 * 4
    assert report.mapped_bytes == 0
    assert engine.checkpoint.tensors == {}
    assert report.kv_bytes == 4096 * 30 * 2 * 3 * 64 * 4
    assert report.scratch_bytes < 32 * 1024 * 1024


def test_streamed_text_never_holds_half_a_character(engine: TextEngine) -> None:
    """The real tokenizer splits these characters over several tokens."""
    text = "naïve — 日本語 🦙 👩‍👩‍👧 ß Ελλάδα"
    decoder = engine.tokenizer.stream()
    pieces = [decoder.push(i) for i in engine.tokenizer.encode(text)]
    assert "".join(pieces) + decoder.flush() == text
    assert "" in pieces
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_cancel_is_asked_for_often(engine: TextEngine, phase: str, chats: list[dict[str, Any]]) -> None:
    """Before every layer and every token: 30 layers of a full chunk are what a cancel can wait for."""
    polls = 0

    def count() -> bool:
        nonlocal polls
        polls += 1
        return False

    prompt = (chats[0]["prompt_ids"] * 20)[:300] if phase == "prefill" else chats[0]["prompt_ids"]
    engine.reset()
    params = SamplingParams(temperature=0.0, max_tokens=0 if phase == "prefill" else 10, ignore_eos=True)
    list(engine.generate(prompt, params, cancelled=count))
    passes = 2 if phase == "prefill" else 10
    assert polls >= 30 * passes


def test_cancel_in_the_middle_of_a_layer_stack(engine: TextEngine, chats: list[dict[str, Any]]) -> None:
    ids = np.array(chats[0]["prompt_ids"], np.int32)
    cache = engine.model.new_cache(128)
    left = iter(range(17))
    with pytest.raises(Cancelled):
        engine.model.forward(ids, cache, cancelled=lambda: next(left, None) is None)
    assert cache.length == 0
    logits = engine.model.forward(ids, cache)
    np.testing.assert_allclose(logits[chats[0]["top20_ids"]], chats[0]["top20_logits"], atol=1e-3)


def test_loading_tells_its_progress_and_errors_are_plain(default_model: Path) -> None:
    seen: list[Any] = []
    progress: Callable[[Any], None] = seen.append
    load_engine(default_model, backend="numpy", threads=1, on_progress=progress).close()
    assert {p.stage for p in seen} == {"weights"}
    assert seen[-1].done_bytes == seen[-1].total_bytes > 90_000_000
    for wrong, words in (
        ({"backend": "gpu"}, "auto or jit or numpy"),
        ({"kv": "q2"}, "f32 or f16 or bf16 or q8"),
    ):
        with pytest.raises(ValueError, match=words):
            load_engine(default_model, **wrong)
    with pytest.raises(ValueError, match="needs the jit backend"):
        load_engine(default_model, backend="numpy", kv="q8")
