"""`/compare` on the screen: it splits, both answer, one is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.tui.screens.compare import CompareScreen, Pane
from tests.support.fake_engine import FakeEngine, factory_of

MakeApp = Callable[..., Any]
LOGPROBS = (-0.1, -0.5, -1.5)


def by_system(turns: Any) -> str:
    """Another reply with another system prompt; [brackets] and marks stay what they are."""
    if turns[0]["role"] == "system":
        return "The capital of France is [Paris], matey, and a fine town for pirates it be."
    return "The capital of France is Paris.\nIt lies on the Seine."


async def begun(user: Any, engine: FakeEngine, line: str = "/compare system You are a pirate.") -> None:
    """Both have answered on the screen."""
    await user.ready()
    await user.say("why?")
    engine.script = by_system
    await user.command(line)
    await user.until(lambda: isinstance(user.app.screen, CompareScreen))
    await user.until(lambda: user.app.screen._comparison.ended)
    user.app.screen._growth.look()
    await user.pilot.pause()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "beside"), [(100, 34, True), (80, 34, False), (60, 20, False)])
async def test_the_screen_splits(
    make_app: MakeApp, engine: FakeEngine, drive: Any, width: int, height: int, beside: bool
) -> None:
    async with make_app().run_test(size=(width, height)) as pilot:
        user = drive(pilot)
        await begun(user, engine)
        one, other = (pane.region for pane in user.app.screen.query(Pane))
        assert (one.y == other.y) is beside
        assert (one.x == other.x) is not beside
        assert min(one.height, other.height) >= 4
        text = user.screen_text()
        for part in (
            "1  as it is now",
            "2  system You are a pirate.",
            "[Paris]",
            "They part after 5 tokens:",
        ):
            assert part in text


@pytest.mark.slow
async def test_a_line_break_where_they_part_is_seen(
    make_app: MakeApp, engine: FakeEngine, drive: Any
) -> None:
    async with make_app().run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        engine.script = lambda turns: ["So", " it is" if turns[0]["role"] == "system" else "\nit is"]
        await user.command("/compare system You are a pirate.")
        await user.until(lambda: "They part after 1 token" in user.screen_text())
        assert "So⏎ " in user.screen_text()


async def test_one_is_kept(make_app: MakeApp, engine: FakeEngine, drive: Any) -> None:
    async with make_app().run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await begun(user, engine)
        await user.press("right", "down", "enter")
        await user.until(lambda: "pirates" in user.words()[-1])
        await user.ready()
        assert user.app.screen is user.chat
        assert "system You are a pirate." in user.screen_text(), "who said it, and with what"
        await user.say("and now?")
        assert engine.calls[-1][1][0]["role"] == "user", "the chat's own prompt stays what it was"


@pytest.mark.slow
async def test_both_are_kept_by_one_key(make_app: MakeApp, engine: FakeEngine, drive: Any) -> None:
    async with make_app().run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await begun(user, engine)
        await user.press("b")
        await user.until(lambda: len(user.chat.session.conversation) == 4)
        await user.ready()
        assert "Seine" in user.words()[-1], "the chosen one is shown"
        assert "‹ 3/3 ›" in user.screen_text()


@pytest.mark.slow
async def test_escape_stops_then_leaves_the_chat_as_it_was(
    make_app: MakeApp, engine: FakeEngine, drive: Any
) -> None:
    async with make_app().run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        before = user.words()

        def script(turns: Any) -> Any:
            yield "begun"
            engine.gate.clear()
            yield " never"

        engine.script = script
        await user.command("/compare temperature 1.5")
        await user.until(lambda: isinstance(user.app.screen, CompareScreen))
        screen = user.app.screen
        await user.until(lambda: any(screen._comparison.answers))
        await user.press("escape")
        await user.until(lambda: screen._comparison.ended)
        assert user.app.screen is screen, "what came is still there to be chosen from"
        engine.gate.set()
        await user.press("escape")
        await user.ready()
        assert user.words() == before
        assert "/keep 1 or /keep 2" in user.notices()[-1]
        await user.command("/keep 1")
        await user.until(lambda: user.words()[-1] == "begun")
        await user.command("/keep 3")
        assert "two answers" in user.notices()[-1]


@pytest.mark.slow
async def test_quitting_meanwhile_keeps_what_is_there(
    make_app: MakeApp, engine: FakeEngine, drive: Any
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await begun(user, engine)
        chat_id = app.chat.session.chat.id
        await user.press("ctrl+q")
    stored = app.store.read(chat_id)
    assert stored.path()[-1].content == "You said: why?"
    kept = [one.content for one in stored.siblings(stored.path()[-1].id)][1:]
    assert [("Seine" in one, "pirates" in one) for one in kept] == [(True, False), (False, True)]


@pytest.mark.slow
async def test_a_mistake_is_answered_with_a_sentence(make_app: MakeApp, drive: Any) -> None:
    async with make_app().run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await user.ready()
        for line, said in (
            ("/compare temperature 1", "no question yet"),
            ("/compare temperatur 1", "Did you mean temperature?"),
            ("/compare", "Something is missing. As in: /compare model NAME"),
        ):
            await user.command(line)
            await user.until(lambda: said in user.notices()[-1])  # noqa: B023


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("theme", ["llama-dark", "llama-light"])
def test_pictures(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, until: Any, asked: Any, width: int, theme: str
) -> None:
    """Two answers, where they part, and how probable each held its word."""
    engine.logprobs = LOGPROBS

    async def before(pilot: Any) -> None:
        app = pilot.app
        await asked(pilot, "What is the capital of France?", panel=False)
        engine.script = by_system
        app.chat.run_command("/compare system You are a pirate.")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen._comparison.ended)
        app.screen._growth.look()

    assert snap_compare(make_app(theme=theme), run_before=before, terminal_size=(width, 30))


@pytest.mark.slow
async def test_another_model_makes_a_reply_and_goes(
    make_app: MakeApp, engine: FakeEngine, drive: Any, model_file: Any
) -> None:
    other = FakeEngine(script=lambda turns: "You said nothing")
    other_file = model_file.with_name("other.gguf")
    other_file.write_bytes(b"GGUF")

    def opener(path: Any, settings: Any, on_progress: Any) -> FakeEngine:
        return factory_of(other if path == other_file else engine)(path, settings, on_progress)

    async with make_app(factory=opener).run_test(size=(120, 34)) as pilot:
        user = drive(pilot)
        await user.ready()
        await user.say("why?")
        await user.command(f"/retry {other_file} once")
        await user.until(lambda: user.words()[-1] == "You said nothing")
        await user.ready()
        assert "other  this reply alone" in user.screen_text()
        assert user.chat.session.model.info.name == "tiny-llama"
        await user.command("/retry nowhere")
        await user.until(lambda: "neither a file nor a known model" in user.notices()[-1])
        assert user.chat.prompt.text == "/retry nowhere", "the line comes back"
