"""faults.md row 14 in the app: a chat whose replies carry damaged details can be read and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_engine import FakeEngine

MakeApp = Callable[..., Any]
GOOD = {
    "prompt_n": 3,
    "prompt_ms": 1.5,
    "prompt_per_second": 2000.0,
    "predicted_n": 2,
    "predicted_ms": 4.0,
    "predicted_per_second": 250.0,
    "ttft_ms": 2.0,
}
DAMAGED: list[dict[str, Any]] = [
    *({"timings": {key: value for key, value in GOOD.items() if key != gone}} for gone in GOOD),
    *({"timings": {**GOOD, "prompt_ms": bad}} for bad in (None, "1", True, [], -1, 1e400)),
    *({"timings": bad} for bad in (None, 3, True, "x", [])),
    *(
        {"ids": bad, "timings": GOOD}
        for bad in (None, 5, True, "12", {"1": 2}, [1, "x"], [True], [-1], [2**70])
    ),
    *({"ids": [100], "context": bad} for bad in (None, 3, [None, 1], [1])),
    *({"ids": [100], "parameters": bad, "model": bad, "error": bad} for bad in (None, 3, [])),
]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
async def test_damaged_details_crash_nothing(
    make_app: MakeApp, engine: FakeEngine, ready: Any, until: Any, every: int
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        for x in DAMAGED[::every]:
            chat = app.store.create(model="toy")
            chat.append(chat.conversation.add("user", "question"))
            chat.append(chat.conversation.add("assistant", "half", status="stopped", x=x))
            chat.close()
            await app.chat.session.open_chat(chat.id)
            await until(pilot, lambda: app.chat.session.path() and app.chat.messages.views())
            for command in ("/stats", "/inspect"):
                app.chat.prompt.set_text(command)
                await pilot.press("enter")
                await pilot.pause(0.05)
                assert app.is_running, f"{command} on {x}"
                while len(app.screen_stack) > 1:
                    await pilot.press("escape")
            app.chat.prompt.set_text("/continue")
            await pilot.press("enter")
            await until(pilot, lambda: len(app.chat.session.path()[-1].content) > len("half"))
            await ready(pilot)
            assert app.is_running, f"/continue on {x}"


@pytest.mark.parametrize("gone", GOOD)
def test_stats_show_an_unknown_number_as_unknown(gone: str) -> None:
    from chat_app.text.formatting import UNKNOWN, verbose_timings

    shown = verbose_timings({key: value for key, value in GOOD.items() if key != gone}, 1.0)
    assert UNKNOWN in shown
    assert UNKNOWN not in verbose_timings(GOOD, 1.0)
