"""A cursor over the tokens of a tinted reply: its keys, what it shows, where it leads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.content import Content

from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore
from chat_app.store.database import Database
from chat_app.tui.screens.continuations import ContinuationsScreen
from chat_app.tui.screens.inspector import InspectorScreen
from chat_app.tui.widgets.messages.tint import CURSOR, TintedText
from chat_app.tui.widgets.token_line import TokenLine, packed
from tests.support.chats import keep
from tests.support.fake_engine import FakeEngine, factory_of

MakeApp = Callable[..., Any]
REPLY = "It is **so** [dim] here\nand there"
LOGPROBS = (-0.01, -0.5, -1.5, -4.0, -0.1)  # so that " **so**" and " [dim]" are doubtful


def shades(view: Any) -> set[str]:
    """The styles that a message's tinted text has."""
    return {str(span.style) for span in view.query_one(TintedText).content.spans if span.style}


def under_cursor(view: Any) -> str:
    """The text that the cursor stands on."""
    content = view.query_one(TintedText).content
    return "".join(content.plain[one.start : one.end] for one in content.spans if str(one.style) == CURSOR)


class Walker:
    """A reply with the cursor in it, and what is seen of it."""

    def __init__(self, user: Any) -> None:
        self.user = user

    @property
    def here(self) -> str:
        return under_cursor(self.user.views()[-1])

    @property
    def line(self) -> str:
        line = self.user.chat.query_one(TokenLine)
        return str(line.content) if line.display else ""

    async def begin(self) -> None:
        await self.user.ready()
        await self.user.say("why?")
        await self.user.press("alt+w")
        await self.user.until(lambda: "rank" in self.line)


@pytest.fixture
def walker(engine: FakeEngine, drive: Any) -> Callable[[Any], Walker]:
    engine.script = lambda turns: REPLY
    engine.logprobs = LOGPROBS
    return lambda pilot: Walker(drive(pilot))


async def test_arrows_and_tab_walk_and_letters_are_typed(make_app: MakeApp, walker: Any) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        found = walker(pilot)
        user = found.user
        await found.begin()
        assert found.here == " **so**", "the first doubtful token"
        assert "rank 2" in found.line
        for keys, text in (
            (("tab",), " [dim]"),
            (("tab",), " [dim]"),  # there is no other
            (("right",), " here"),
            (("shift+tab",), " [dim]"),
            (("left", "left"), " is"),
            (("home",), "It"),
            (("left",), "It"),
            (("end",), " there"),
        ):
            await user.press(*keys)
            assert found.here == text
        assert "no other token below 50%" in user.notices()[-1]
        await user.press(*"no")
        await user.until(lambda: user.chat.prompt.text == "no")
        await user.until(lambda: not found.line)
        assert found.here == ""
        assert user.chat.query_one(TintedText).display, "the tint stays"


def stored(tmp_path: Path, model: str) -> tuple[ChatStore, str]:
    """(a store, the chat in it), whose reply `model` wrote on another day."""
    chat = Conversation()
    chat.add("user", "why?")
    logprobs, words = list(LOGPROBS[:4]), ("It", " is", " **so**", " [dim]")
    chars = [len(one) for one in words]
    x = {"ids": [100, 101, 102, 103], "model": model, "logprobs": logprobs, "chars": chars}
    chat.add("assistant", "".join(words), x=x)
    store = ChatStore(Database(tmp_path / "chats.db"))
    return store, keep(store, chat)


async def test_a_chat_from_disk_is_tinted_at_once_and_looked_at_when_the_model_is_there(
    make_app: MakeApp, walker: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    store, chat_id = stored(tmp_path, "tiny-llama")
    loads = threading.Event()

    def slow(*given: Any) -> FakeEngine:
        loads.wait(20)
        return factory_of(engine)(*given)

    async with make_app(store=store, chat_id=chat_id, factory=slow).run_test(size=(80, 30)) as pilot:
        found = walker(pilot)
        await found.user.until(lambda: found.user.views())
        await found.user.press("alt+w")
        assert found.line.startswith(" **so**  22 %\nThe model is busy or not loaded")
        assert len(shades(found.user.views()[-1])) > 2
        loads.set()
        await found.user.until(lambda: "rank" in found.line)


async def test_of_another_models_reply_only_what_is_kept_is_shown(
    make_app: MakeApp, walker: Any, tmp_path: Path
) -> None:
    store, chat_id = stored(tmp_path, "big-llama")
    async with make_app(store=store, chat_id=chat_id).run_test(size=(80, 30)) as pilot:
        found = walker(pilot)
        await found.user.ready()
        await found.user.press("alt+w")
        for share in (" 22 %", " 1.8 %"):
            assert found.line.splitlines()[0].endswith(share)
            assert "big-llama wrote this reply, and tiny-llama is loaded" in found.line
            await found.user.press("tab")
        await found.user.press("down", "enter")
        assert len(found.user.chat.session.conversation) == 2, "nothing is taken from it"


@pytest.mark.slow
async def test_a_click_on_a_word_puts_the_cursor_there(
    make_app: MakeApp, walker: Any, engine: FakeEngine
) -> None:
    """Behind a wrapped line too, and behind characters of two cells."""
    async with make_app().run_test(size=(80, 30)) as pilot:
        found = walker(pilot)
        user = found.user
        engine.script = lambda turns: "日本 " + "word " * 30 + "last one"
        await user.ready()
        await user.say("why?")
        await user.press("alt+p")
        await user.ready()
        text = user.views()[-1].query_one(TintedText)
        bottom = text.size.height - 1
        for x, y, word in ((1, 0, "日本"), (6, 0, " word"), (1, 1, None), (0, bottom, None)):
            await pilot.click(text, offset=(x, y))
            await user.until(lambda: found.here)
            assert found.here.strip() == (word or "word").strip()
        assert user.app.focused is text
        await user.press("end", "left")
        assert found.here == " last"


@pytest.mark.slow
async def test_the_cursor_stays_in_sight(make_app: MakeApp, walker: Any, engine: FakeEngine) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        found = walker(pilot)
        user = found.user
        engine.script = lambda turns: "begin " + "word " * 600 + "ending"
        await user.ready()
        await user.say("why?")
        await user.press("alt+w")
        await user.until(lambda: "rank" in found.line)
        await user.press("home")
        await user.until(lambda: "begin" in user.screen_text())
        await user.press("end")
        await user.until(lambda: "ending" in user.screen_text())


@pytest.mark.parametrize(
    ("most", "choice", "shown"),
    [
        (3, 0, ["aaaa   bbbb", "cccc   dddd", "eeee"]),
        (2, 1, ["aaaa   bbbb", "cccc   dddd"]),
        (1, 2, ["cccc   dddd"]),
        (2, 4, ["cccc   dddd", "eeee"]),
    ],
)
def test_alternatives_are_packed_around_the_one_that_is_chosen(
    most: int, choice: int, shown: list[str]
) -> None:
    entries = [Content(letter * 4) for letter in "abcde"]
    assert [line.plain for line in packed(entries, 12, most, choice)] == shown
    assert [line.plain for line in packed(entries[:1], 2, most, 0)] == ["aaaa"]


@pytest.mark.slow
async def test_escape_goes_back_to_the_prompt(make_app: MakeApp, walker: Any) -> None:
    async with make_app().run_test(size=(80, 30)) as pilot:
        found = walker(pilot)
        await found.user.ready()
        await found.user.press("alt+w")
        assert "No reply of this chat has tokens" in found.user.notices()[-1]
        await found.begin()
        await found.user.press("escape")
        await found.user.until(lambda: not found.line)
        assert found.user.app.focused is found.user.chat.prompt
        assert len(found.user.chat.session.path()) == 2


@pytest.mark.slow
async def test_an_alternative_becomes_a_branch(make_app: MakeApp, walker: Any, engine: FakeEngine) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        found = walker(pilot)
        user = found.user
        await found.begin()
        reply = user.chat.session.path()[-1]
        await user.press("down")  # that is the token itself
        await user.press("enter")
        assert "the token that stands there" in user.notices()[-1]
        await user.press("down")
        assert found.line.count("cut by top_p 0.95: token0") == 1, "what the sampler cut, and why"
        await user.press("up", "up")
        engine.script = lambda turns: " went elsewhere"
        await user.press("enter")
        await user.until(lambda: user.chat.session.path()[-1].id != reply.id)
        await user.ready()
        branch = user.chat.session.path()[-1]
        assert branch.x["ids"][:3] == [100, 101, 7]
        assert branch.content == "token100 token101 token7  went elsewhere"
        assert not found.line
        # It can be walked through from its first new token on.
        await user.press("alt+w")
        await user.until(lambda: "rank" in found.line)


@pytest.mark.slow
async def test_the_inspector_opens_at_the_cursor(make_app: MakeApp, walker: Any) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        found = walker(pilot)
        await found.begin()
        await found.user.press("alt+i")
        await found.user.until(lambda: isinstance(found.user.app.screen, InspectorScreen))
        screen = found.user.app.screen
        await found.user.until(lambda: screen.walk.here is not None)
        assert screen.walk.at == 2
        await found.user.press("n")
        assert screen.walk.at == 3
        await found.user.press("n", "N")
        assert screen.walk.at == 2


@pytest.mark.slow
async def test_eight_continuations_and_one_is_kept(
    make_app: MakeApp, walker: Any, engine: FakeEngine
) -> None:
    async with make_app().run_test(size=(100, 34)) as pilot:
        found = walker(pilot)
        user = found.user
        await found.begin()
        session = user.chat.session
        before = [one.id for one in session.conversation]
        turn = itertools.cycle([" good and well", " good and bad"])
        engine.script = lambda turns: next(turn)
        await user.press("alt+n")
        await user.until(lambda: isinstance(user.app.screen, ContinuationsScreen))
        await user.until(lambda: "4 of 8   bad" in user.screen_text())
        assert "8 continuations from token 3" in user.screen_text()
        assert "8 of 8   good and" in user.screen_text()
        await user.press("escape")
        await user.ready()
        assert [one.id for one in session.conversation] == before
        await user.press("alt+w")
        await user.until(lambda: "rank" in found.line)
        await user.press("alt+n")
        await user.until(lambda: "4 of 8   bad" in user.screen_text())
        await user.press("down", "enter")
        await user.until(lambda: len(session.conversation) == len(before) + 1)
        await user.ready()
        assert session.path()[-1].content == "token100 token101  good and bad"
        assert user.app.focused is user.chat.prompt, "so that Esc stops what goes on"


@pytest.fixture
def walking(engine: FakeEngine, until: Any, asked: Any) -> Callable[[Any], Any]:
    """`await walking(pilot)`: what stands before a picture of a reply with the cursor in it."""
    engine.script = lambda turns: REPLY
    engine.logprobs = LOGPROBS

    async def begin(pilot: Any) -> None:
        await asked(pilot, "why?", panel=False)
        await pilot.press("alt+w")
        await until(pilot, lambda: "rank" in str(pilot.app.chat.query_one(TokenLine).content))

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("theme", ["llama-dark", "llama-light"])
def test_pictures(snap_compare: Any, make_app: MakeApp, walking: Any, width: int, theme: str) -> None:
    """The cursor on a doubtful token, and what else could stand there."""
    assert snap_compare(make_app(theme=theme), run_before=walking, terminal_size=(width, 30))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "theme"), [(80, "llama-dark"), (140, "llama-light")])
def test_pictures_of_continuations(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, until: Any, walking: Any, width: int, theme: str
) -> None:
    """Where eight continuations agree."""

    async def before(pilot: Any) -> None:
        await walking(pilot)
        turn = itertools.cycle([" good and well", " good and bad", " a matter of taste", " good and well"])
        engine.script = lambda turns: next(turn)
        await pilot.press("alt+n")
        await until(
            pilot, lambda: getattr(pilot.app.screen, "_drawn", None) and pilot.app.screen._drawn.ended
        )
        pilot.app.screen._growth.look()

    assert snap_compare(make_app(theme=theme), run_before=before, terminal_size=(width, 30))
