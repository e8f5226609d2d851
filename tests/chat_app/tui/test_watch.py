"""The panel of `serve --watch`."""

from __future__ import annotations

from dataclasses import replace

from textual.widgets import Sparkline, Static

from chat_app.serve.worker import Load
from chat_app.tui.watch import WatchApp, lines_of

LOAD = Load(
    waiting=2,
    running=3,
    requests=1234,
    prompt_tokens=1000,
    reused_tokens=250,
    drawn_tokens=56789,
    tokens_per_s=812.4,
    kv_bytes=3 << 20,
    prefix_bytes=5 << 20,
    uptime_s=61.0,
)


async def test_the_panel_shows_what_the_worker_says_now() -> None:
    loads = [LOAD]
    app = WatchApp(lambda: loads[-1], "http://127.0.0.1:8080/v1", "tiny[bold]\x1b[31m")
    async with app.run_test(size=(80, 24)) as pilot:
        numbers = app.query_one("#numbers", Static)
        assert "812 tok/s" in str(numbers.render())
        assert "3, 2 waiting" in str(numbers.render())
        assert "3.0 MiB running, 5.0 MiB kept" in str(numbers.render())
        assert "25%" in str(numbers.render())
        assert "tiny[bold]" in str(app.query_one("#title", Static).render())
        assert "\x1b" not in str(app.query_one("#title", Static).render())
        loads.append(replace(LOAD, tokens_per_s=9.0, running=0))
        app.refresh_numbers()
        assert "0, 2 waiting" in str(numbers.render())
        data = app.query_one("#rates", Sparkline).data
        assert data is not None
        assert data[-1] == 9.0
        await pilot.press("q")
    assert app.return_code == 0


def test_no_prompt_yet() -> None:
    none = replace(LOAD, prompt_tokens=0, reused_tokens=0)
    assert any("none of them known" in line for line in lines_of(none))
