"""The live panel: a line, a card for everybody, a lab for engineers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.content import Content
from textual.widgets import Static

from chat_app.chat.panel_snapshot import PanelSnapshot
from chat_app.tui.widgets.panel import card, lab
from chat_app.tui.widgets.panel.parts import FULL, REPLIES, WIDTH, YOU, by_message, course, used_by
from chat_app.tui.widgets.panel.widget import MetricsPanel
from llama_core.backends.base import MemoryReport
from llama_core.backends.step_watch import OperationTime, StepTimes, StepWatch
from tests.support.fake_engine import FakeClock, FakeEngine

MakeApp = Callable[..., Any]
MIB = 1 << 20
SEGMENTS = (("user", 100), ("assistant", 300), ("user", 50), ("assistant", 50))
SHOT = PanelSnapshot(
    phase="idle",
    rate_mean=142.7,
    ttft_s=0.9,
    prefill_total_n=812,
    prefill_s=1.2,
    prefill_rate=690.0,
    decode_n=1024,
    decode_s=7.2,
    decode_rate=142.7,
    p50_s=0.007,
    p95_s=0.0072,
    context_n=500,
    chat_n=500,
    context_limit=4096,
    cached_n=188,
    saved_s=0.3,
    kv_bytes=180 * MIB,
    kv_used_bytes=22 * MIB,
    weights_bytes=10 * MIB,
    scratch_bytes=0,
    resident_bytes=99 * MIB,
    machine_bytes=200 * MIB,
    backend="jit avx512-vnni (Q4_1 as q4m, Q8_0 as q8, kv f16)",
    threads=2,
    steps=StepTimes(
        (
            OperationTime("norm, gate and up, SwiGLU", 0.6, (0.1, 0.2, 0.3)),
            OperationTime("head", 0.3, ()),
            OperationTime("down product", 0.1, (0.1, 0.0, 0.0)),
        ),
        0.005,
    ),
)
READING = replace(SHOT, phase="prefill", prefill_done_n=512, prefill_total_n=2048, prefill_eta_s=25.9)


def filled(bar: Content) -> int:
    return bar.plain.count("█")


def parts_of(shot: PanelSnapshot) -> list[Content]:
    """All parts of both depths."""
    found = [card.chat_memory(shot, SEGMENTS), card.started(shot), card.ram(shot)]
    found += [lab.phases(shot, short=short) for short in (False, True)]
    found += [lab.chat_memory(shot, SEGMENTS), lab.reuse(shot), lab.memory(shot), lab.operations(shot)]
    return [*found, lab.engine(shot)]


@pytest.mark.parametrize(
    "shot",
    [SHOT, READING, PanelSnapshot(), replace(SHOT, untold="memory", resident_bytes=None, steps=None)],
    ids=["idle", "reading", "empty", "elsewhere"],
)
def test_every_part_is_as_wide_as_the_panel_at_most(shot: PanelSnapshot) -> None:
    large = replace(shot, context_limit=131_072, draft_bytes=7 * MIB, drafted_n=900, accepted_n=700)
    for one in (*parts_of(shot), *parts_of(large)):
        assert max(map(len, one.plain.split("\n"))) <= WIDTH, one.plain


def test_the_card_speaks_everybodys_words() -> None:
    text = "\n".join(one.plain for one in parts_of(SHOT)[:3])
    for words in ("Chat memory", "~2,600 words left", "Started in", "900 ms", "Reused", "99 of 200 MiB"):
        assert words in text
    for words in ("token", "prefill", "decode", "KV", "ctx", "p50", "as q8"):
        assert words not in text
    assert "26 s left" in card.started(READING).plain
    assert "25 %" in card.one_line(READING, 80).plain


def test_the_labs_words_explain_themselves() -> None:
    text = "\n".join(one.plain for one in parts_of(replace(SHOT, drafted_n=10, accepted_n=7))[3:])
    for words in (
        *("Reading the prompt", "Writing", "Reused", "Right guesses", "chat memory (KV)", "work buffers"),
        *("Python and libraries", "jit avx512-vnni", "2 threads", "812 tok", "690 tok/s", "p95"),
    ):
        assert words in text
    for words in ("Prefill", "Decode", "drafts", "scratch", "other ", "as q8", "as q4m"):
        assert words not in text


def test_fill_means_share_used() -> None:
    assert filled(card.ram(SHOT)) == round(99 / 200 * WIDTH)
    assert filled(lab.memory(SHOT)) == round(99 / 200 * WIDTH)
    assert filled(Content.assemble(*used_by(SEGMENTS, 2048, 4096))) == WIDTH // 2
    assert filled(Content.assemble(*used_by(SEGMENTS, 1, 4096))) == 1
    assert filled(Content.assemble(*used_by(SEGMENTS, 0, 4096))) == 0
    assert filled(Content.assemble(*used_by((), 4096, 4096))) == WIDTH
    half = Content.assemble(*by_message((("user", 50), ("assistant", 50)), 75))
    assert half.plain == "█" * 24 + "░" * 8 + "\n"


def test_a_colour_means_one_thing() -> None:
    def coloured(content: Content) -> dict[str, str]:
        """What stands in each colour."""
        found: dict[str, str] = {}
        for span in content.spans:
            style = str(span.style).removeprefix("bold ")
            found[style] = found.get(style, "") + content.plain[span.start : span.end]
        return found

    used = coloured(Content.assemble(*used_by(SEGMENTS, 500, 500)))
    assert (len(used[YOU]), len(used[REPLIES])) == (10, 22)
    full = replace(SHOT, context_n=4000, chat_n=4000)
    for shot in (SHOT, READING, full):
        for part in parts_of(shot):
            found = coloured(part)
            # Yours: your messages, the reading of them, and the legend's sign for them.
            assert set(found.get(YOU, "")) <= set("█░■ ")
            assert set(found.get(REPLIES, "")) <= set("█░■ ")
            assert "$accent" not in found
            assert "$warning" not in found
            assert (FULL in found) <= (shot is full)
    assert YOU in coloured(card.started(READING))
    assert "you" in card.chat_memory(SHOT, SEGMENTS).plain
    assert "free" in card.chat_memory(SHOT, SEGMENTS).plain


def test_what_a_draft_model_holds_is_a_part_of_its_own() -> None:
    assert "guesses" not in lab.memory(SHOT).plain
    rows = lab.memory(replace(SHOT, draft_bytes=7 * MIB)).plain.split("\n")
    values = {row.strip().rsplit(maxsplit=1)[0]: row.split()[-1] for row in rows[2:]}
    assert values == {
        "weights": "10",
        "model that guesses": "7.0",
        "chat memory (KV)": "22",
        "work buffers": "0",
        "Python and libraries": "60",
    }


def test_the_time_of_each_operation_by_layer() -> None:
    shown = lab.operations(SHOT).plain.split("\n")
    assert shown[1] == "gate and up        60 % ▃▅█"
    assert shown[2] == "head               30 % "
    assert shown[3] == "down product       10 % ▃  "
    assert "0.5 %" in shown[4]
    assert "while a reply is written" in lab.operations(replace(SHOT, steps=None)).plain
    names = {
        "RoPE of queries, attention": "attention",
        "norm, QKV product": "norm, QKV product",
        "RoPE of keys, cache": "RoPE of keys",
        "gate and up, clamped SwiGLU": "gate and up",
    }
    assert {name: lab.short_name(name) for name in names} == names
    both = (
        OperationTime("norm, gate and up, SwiGLU", 1.0, (1.0,)),
        OperationTime("gate and up, SwiGLU", 3.0, (2.0, 1.0)),
    )
    merged = lab.operations(replace(SHOT, steps=StepTimes(both, 0.0))).plain.split("\n")
    assert merged[1].split() == ["gate", "and", "up", "100", "%", "█▃"]
    assert course([1.0] * 30, 10, 3.0) == "█" * 10


async def test_one_key_steps_through_the_depths_and_is_remembered(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        panel, line = user.chat.query_one(MetricsPanel), user.chat.query_one("#metrics-line", Static)
        seen = []
        for _ in range(4):
            seen.append((panel.display, line.display, "TIME BY OPERATION" in user.screen_text()))
            await user.press("ctrl+o")
        assert seen == [
            (True, False, False),
            (True, False, True),
            (False, False, False),
            (False, True, False),
        ]
        assert panel.display
        assert not panel.has_class("-lab")
        await user.press("ctrl+o")
        await user.until(lambda: user.app._ui_file.exists() and "lab" in user.app._ui_file.read_text())
        user.chat.session.metrics.memory(MemoryReport(0, 2000, 1000, 0, 0, 99))  # of a dropped summary
        await pilot.resize_terminal(119, 24)
        await user.until(lambda: line.display)
        assert not panel.display
        assert "~1,500 words left" in user.screen_text(), "the chat is empty, whatever the cache holds"
        await user.press("ctrl+o")
        assert not line.display
        assert any("120 columns" in one for one in user.notices())
        await user.press("ctrl+o")
        assert line.display
        await user.until(lambda: "line" in user.app._ui_file.read_text())
    async with make_app().run_test(size=(120, 40)) as pilot:
        assert pilot.app.chat.has_class("-panel-line")


async def test_the_lab_is_read_to_its_end_by_a_key(make_app: MakeApp, drive: Any) -> None:
    async with make_app(panel="lab").run_test(size=(120, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        user.chat.session.metrics.steps(SHOT.steps)
        user.chat._numbers.show()
        await user.until(lambda: user.chat.query_one(MetricsPanel).max_scroll_y > 2)
        assert "watching takes" not in user.screen_text()
        await user.press("alt+l")
        await user.until(lambda: "watching takes" in user.screen_text())
        await user.press("alt+l")
        await user.until(lambda: "Started in" in user.screen_text())
        assert user.app.focused is user.chat.prompt


async def test_steps_are_measured_only_while_the_lab_is_in_sight(
    make_app: MakeApp, drive: Any, engine: FakeEngine
) -> None:
    engine.steps = StepWatch()

    def script(turns: Any) -> Any:
        engine.steps._calls["attention", 0] += float(engine.steps.on)
        return "said"

    engine.script = script
    async with make_app(panel="card").run_test(size=(120, 40)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("one")
        assert not engine.steps.on
        await user.press("ctrl+o")
        assert engine.steps.on
        await user.say("two")
        await user.until(lambda: "attention         100 %" in user.screen_text())
        await pilot.resize_terminal(100, 40)
        await user.until(lambda: not engine.steps.on)


@pytest.mark.parametrize("size", [(140, 40), (120, 24)], ids=lambda size: f"{size[0]}")
@pytest.mark.parametrize(("theme", "depth"), [("llama-dark", "lab"), ("llama-light", "card")])
def test_pictures(
    snap_compare: Any, make_app: MakeApp, asked: Any, size: tuple[int, int], theme: str, depth: str
) -> None:
    async def run_before(pilot: Any) -> None:
        await asked(pilot, "What is a llama?")
        metrics = pilot.app.chat.session.metrics
        metrics.steps(SHOT.steps)
        pilot.app.chat._numbers.show()
        await pilot.pause(0.2)

    app = make_app(theme=theme, panel=depth, clock=FakeClock())
    assert snap_compare(app, terminal_size=size, run_before=run_before)
