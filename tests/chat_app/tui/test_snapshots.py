"""Pictures as the screen's contract. Nothing in them depends on the machine, the time or a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_engine import FakeClock, FakeEngine

MakeApp = Callable[..., Any]
SIZES = [(60, 20), (80, 24), (140, 40)]
THEMES = ["llama-dark", "llama-light"]
REPLY = """A **llama** is a domesticated animal of South America.

1. It carries loads.
2. It gives wool.

```python
def greet(name: str) -> None:
    print(f"Hello, {name}!")  # [not markup]
```
"""


@pytest.fixture
def settled(asked: Any, engine: FakeEngine) -> Callable[..., Any]:
    """`settled(prompt)` is a `run_before` that sends the prompt and waits until all is still."""

    def make(prompt: str = "", *keys: str) -> Any:
        async def run_before(pilot: Any) -> None:
            await asked(pilot, *([prompt] if prompt else []))
            for key in keys:
                await pilot.press(key)
            await pilot.pause(0.2)

        return run_before

    return make


def small_engine(engine: FakeEngine) -> None:
    engine.script = lambda turns: REPLY


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}")
def test_a_chat(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, settled: Any, size: tuple[int, int], theme: str
) -> None:
    small_engine(engine)
    app = make_app(theme=theme, clock=FakeClock())
    assert snap_compare(app, terminal_size=size, run_before=settled("What is a llama? [b]x[/b]"))


def test_an_empty_chat(snap_compare: Any, make_app: MakeApp, settled: Any) -> None:
    assert snap_compare(make_app(clock=FakeClock()), terminal_size=(100, 30), run_before=settled())


def test_a_selected_message(snap_compare: Any, make_app: MakeApp, engine: FakeEngine, settled: Any) -> None:
    small_engine(engine)
    app = make_app(clock=FakeClock())
    assert snap_compare(app, terminal_size=(80, 24), run_before=settled("Hello", "alt+up"))


def test_without_colour(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, settled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    small_engine(engine)
    app = make_app(clock=FakeClock())
    assert snap_compare(app, terminal_size=(80, 24), run_before=settled("Hello"))


def test_the_terminals_own_colours(
    snap_compare: Any, make_app: MakeApp, engine: FakeEngine, settled: Any
) -> None:
    small_engine(engine)
    app = make_app(theme="ansi-dark", clock=FakeClock())
    assert snap_compare(app, terminal_size=(110, 30), run_before=settled("Hello"))


def test_help(snap_compare: Any, make_app: MakeApp, settled: Any) -> None:
    app = make_app(clock=FakeClock())
    assert snap_compare(app, terminal_size=(100, 40), run_before=settled("", "f1"))
