"""Find in chat: marks, next and previous, messages that are not mounted, folded thoughts and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat_app.attachments.attachment import Attachment
from chat_app.chat.conversation import Conversation
from chat_app.store.chats import ChatStore
from chat_app.store.database import Database
from chat_app.tui.widgets.key_bar import KeyHint
from tests.support.chats import keep

FILLER = "some other words\n\n" * 6


@pytest.fixture
def app(make_app: Callable[..., Any], tmp_path: Any) -> Any:
    """An app with a chat of 26 messages, in which five places hold the word."""
    store = ChatStore(Database(tmp_path / "chats.db"))
    chat = Conversation()
    file = Attachment("notes.txt", "/notes.txt", "first\n" * 50 + "the quince in a file\n")
    for number in range(26):
        at = {3: "**quince** at the top\n\n", 12: "Quince below. Quince again.\n\n"}.get(number, "")
        x = {"attachments": [file.to_json()]} if number == 22 else {}
        if number == 23:
            x = {"thought": "think\n" * 30 + "of a quince"}
        chat.add("assistant" if number % 2 else "user", at + FILLER + f"message {number}", x=x)
    return make_app(store=store, chat_id=keep(store, chat))


def count(app: Any) -> str:
    return str(app.chat.query_one("#find-count").render())


def marked_rows(app: Any) -> list[str]:
    """The rows in sight that hold the colour of the place one is at."""
    accent = app.theme_variables["text-accent"].lower()
    x, y, width, height = app.chat.messages.region
    strips = [strip.crop(x, x + width) for strip in app.screen._compositor.render_strips()[y : y + height]]
    return [
        strip.text
        for strip in strips
        if any(one.style and one.style.bgcolor and one.style.bgcolor.name == accent for one in strip)
    ]


async def test_one_goes_from_place_to_place(app: Any, until: Any, ready: Any, drawn: Any) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        await pilot.press("ctrl+f", *"quince")
        await until(pilot, lambda: "of 5" in count(app))
        assert "Enter next · ↑ before" in count(app)
        footer = [str(hint.render()) for hint in app.chat.query(KeyHint) if hint.display]
        assert footer[0].split() == ["Enter", "Next"], "the same keys as the row"
        assert footer[1].split() == ["↑", "Previous"]
        seen = []
        for _ in range(5):
            await until(pilot, lambda: len(marked_rows(app)) == 1)
            seen.append((count(app).split(" ·")[0], marked_rows(app)[0].strip(" ▌")))
            await pilot.press("enter")
            await until(pilot, lambda: not count(app).startswith(seen[-1][0]))
            await drawn(pilot)
        order = sorted(seen)
        assert [at for at, _ in order] == [f"{number} of 5" for number in range(1, 6)]
        assert "quince at the top" in order[0][1]
        assert "Quince below. Quince again." in order[1][1]
        assert order[1][1] == order[2][1]
        assert "the quince in a file" in order[3][1]
        assert "of a quince" in order[4][1]
        assert count(app).startswith(seen[0][0])  # round
        await pilot.press("up")
        await until(pilot, lambda: count(app).startswith(seen[-1][0]))
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is app.chat.prompt)
        await until(pilot, lambda: marked_rows(app) == [])
        assert not app.chat.query_one("#find").display


async def test_the_command_finds_and_says_where_there_is_nothing(app: Any, until: Any, ready: Any) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.chat.messages.views())
        await ready(pilot)
        app.chat.run_command("/find message 7")
        await until(pilot, lambda: count(app).startswith("1 of 1"))
        await until(pilot, lambda: any("message 7" in row for row in marked_rows(app)))
        app.chat.run_command("/find no such words")
        await until(pilot, lambda: count(app) == "not in this chat")
        assert marked_rows(app) == []


async def test_finding_ends_with_the_chat_with_esc_and_before_the_tint(
    make_app: Callable[..., Any], drive: Any
) -> None:
    async with make_app().run_test(size=(80, 24)) as pilot:
        user = drive(pilot)
        await user.ready()
        bar = user.chat.query_one("#find")

        async def look() -> None:
            await user.say("one quince")
            await user.press("ctrl+f", *"quince")
            await user.until(lambda: count(user.app).startswith("1 of 2"))

        await look()
        await user.press("alt+w")  # the cursor stands in a tinted reply, which shows no marks
        await user.until(lambda: user.chat._cursor.walk is not None)
        assert not bar.display
        await user.press("escape", "alt+p")
        await user.press("ctrl+f", "alt+p")
        await user.until(lambda: user.app.focused is user.chat.prompt)
        assert not bar.display
        await user.press("ctrl+f", *"quince")
        user.chat.prompt.focus()
        await user.press("escape")
        await user.until(lambda: not bar.display)
        await user.press("ctrl+f")
        await user.until(lambda: user.app.focused is not user.chat.prompt)
        await user.press("ctrl+n")
        await user.until(lambda: not user.chat.session.path())
        await user.until(lambda: not bar.display)
        assert user.app.focused is user.chat.prompt


async def test_a_chat_that_a_search_found_opens_at_the_words(
    make_app: Callable[..., Any], tmp_path: Any, until: Any, ready: Any, drawn: Any
) -> None:
    """Even where they stand far above, and on another branch than the one that is shown."""
    store = ChatStore(Database(tmp_path / "chats.db"))
    kept = store.create(model="toy")
    chat = kept.conversation
    kept.append(first := chat.add("user", FILLER))
    for number in range(12):
        role, words = ("user", "assistant")[number % 2 == 0], "a Medlar tree" * (number == 4)
        kept.append(chat.add(role, f"{words}\n\n{FILLER}"))
    kept.append(chat.add("assistant", "the other branch", parent=first.id))
    kept.close()
    app = make_app(store=store)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        app.chat.run_command("/search medlar")
        await until(
            pilot,
            lambda: any("1 of 1 chat" in str(note.render()) for note in app.screen.query("#history-note")),
        )
        await pilot.press("enter")
        await until(pilot, lambda: "1 of 1" in count(app))
        await until(pilot, lambda: "a Medlar tree" in "".join(marked_rows(app)))
        await pilot.press("escape")
        assert app.focused is app.chat.prompt
