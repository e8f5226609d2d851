"""The token inspector: its numbers, its cursor, and branching at a token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from textual.widgets import Static

from chat_app.chat.inspection import look
from chat_app.engines.base import Token
from chat_app.text.formatting import percent
from chat_app.tui.screens.inspector import InspectorScreen, describe, tint
from llama_core.constraints.grammar import Grammar
from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import Sampler
from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]


def tokens_with(logits: list[float]) -> Any:
    asked: list[list[int]] = []

    def prompt_logits(ids: list[int]) -> Any:
        asked.append(list(ids))
        return np.array(logits, dtype=np.float32)

    def describe(ids: Sequence[int]) -> list[Token]:
        return [Token(one, f"t{one}", bytes([one])) for one in ids]

    def cut_by(params: Any, logits: Any, prompt_ids: Any, ids: Any, among: Any, allowed: Any) -> Any:
        return Sampler(params, len(logits)).cut_by(logits, [*prompt_ids, *ids], among, allowed=allowed)

    return SimpleNamespace(logits=prompt_logits, describe=describe, cut_by=cut_by, asked=asked)


def test_probability_rank_and_entropy() -> None:
    logits = [0.0, math.log(2.0), math.log(5.0), -math.inf]
    tokens = tokens_with(logits)
    found = look(tokens, [9, 9], [2, 1, 0], 1)
    assert tokens.asked == [[9, 9, 2]]
    assert found.chosen.id == 1
    assert found.chosen.probability == pytest.approx(2 / 8)
    assert found.rank == 2
    expected = -sum(p * math.log2(p) for p in (1 / 8, 2 / 8, 5 / 8))
    assert found.entropy == pytest.approx(expected)
    assert [one.id for one in found.top][:3] == [2, 1, 0]
    assert found.chosen.raw == b"\x01"


def test_a_mask_is_shown_with_what_it_took_away() -> None:
    tokens = tokens_with([0.0, math.log(2.0), math.log(5.0)])
    asked: list[Any] = []

    def allowed(*what: Any) -> Any:
        asked.append(what)
        return np.array([True, True, False])

    tokens.allowed = allowed
    grammar = Grammar("regex", "a")
    found = look(tokens, [9], [1, 0], 1, SamplingParams(grammar=grammar))
    assert asked == [(grammar, [9], [1])]
    assert found.allowed_n == 2
    assert found.allowed == pytest.approx(3 / 8)
    assert [(one.id, one.barred) for one in found.top] == [(2, True), (1, False), (0, False)]
    shown = describe(found, 0)
    assert f"2 tokens, {percent(found.allowed)} of the probability" in shown.plain
    assert any("strike" in str(span.style) for span in shown.spans)
    assert "allowed" not in describe(look(tokens, [9], [1, 0], 1), 0).plain


def test_the_tint_warns_of_long_shots() -> None:
    assert tint(None) == tint(math.nan) == tint(-0.01) == ""
    assert len({tint(-0.05), tint(-0.5), tint(-2.0), tint(-5.0)}) == 4


async def test_the_cursor_and_a_branch(make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        session = app.chat.session
        await ready(pilot)
        await pilot.press(*"go", "enter")
        await until(pilot, lambda: len(session.path()) == 2)
        await ready(pilot)
        reply = session.path()[-1]
        await pilot.press("alt+up", "alt+i")
        await until(pilot, lambda: isinstance(app.screen, InspectorScreen) and app.screen.walk.look)
        shown = lambda: str(app.screen.query_one("#inspector-look", Static).render())  # noqa: E731
        await until(pilot, lambda: "1, id 100" in shown())
        assert "rank        2" in shown()
        await pilot.press("right")
        await until(pilot, lambda: "2, id 101" in shown())
        engine.script = lambda turns: "went elsewhere"
        await pilot.press("enter")  # the likeliest token, 7, is marked first
        await until(pilot, lambda: session.path()[-1].id != reply.id)
        await ready(pilot)
        branch = session.path()[-1]
        assert branch.content == "token100 token7 went elsewhere"
        assert branch.x["ids"][:2] == [100, 7]
        assert [one.id for one in session.conversation.siblings(branch.id)] == [reply.id, branch.id]


async def test_a_message_without_tokens_is_explained(make_app: MakeApp, ready: Any, until: Any) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        message = app.chat.session.conversation.add("assistant", "from elsewhere")
        app.inspect(message.id)
        await until(pilot, lambda: isinstance(app.screen, InspectorScreen))
        text = str(app.screen.query_one("#inspector-text", Static).render())
        assert "no recorded tokens" in text
