"""The README's picture, made by the running app: `python -m chat_app.tui.screenshot assets/chat.svg`.

The real app runs without a terminal, with the real model: it sends a prompt, waits for the end of the
reply, and saves what is on the screen.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chat_app.config.settings import Settings
from chat_app.config.sources import load_settings
from chat_app.tui.app import LlamaChatApp
from llama_core.choices import BACKENDS

PROMPTS = ("What is a llama? Answer in two sentences.", "Write a Python function that says hello. Be brief.")
TIMEOUT_S = 120.0


async def take(settings: Settings, prompts: Sequence[str], size: tuple[int, int]) -> str:
    """The screen as SVG after a reply to each prompt. Raises TimeoutError when no model loads or answers."""
    app = LlamaChatApp(settings)
    async with asyncio.timeout(TIMEOUT_S), app.run_test(size=size) as pilot:
        session = app.chat.session
        while session.model.info is None:
            await pilot.pause(0.05)
        for prompt in prompts:
            before = len(session.conversation)
            app.chat.prompt.set_text(prompt)
            await pilot.press("enter")
            while len(session.conversation) < before + 2 or session.generating:
                await pilot.pause(0.05)
        app.chat.prompt.cursor_blink = False
        await pilot.pause(0.5)
        return app.export_screenshot(title="llama-chat")


def main() -> int:
    """Read the arguments, let the app answer the prompts, write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chat_app.tui.screenshot", description=__doc__)
    parser.add_argument("target", type=Path, help="the SVG file to write")
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--size", default="132x38", help="columns x rows")
    parser.add_argument("-m", "--model")
    parser.add_argument("--theme")
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    columns, rows = (int(part) for part in args.size.split("x"))
    flags = {"model": args.model, "theme": args.theme, "backend": args.backend, "seed": args.seed}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = load_settings(given)
    params = replace(settings.params, max_tokens=settings.params.max_tokens or 160)
    settings = replace(settings, save=False, params=params)
    svg = asyncio.run(take(settings, args.prompt or PROMPTS, (columns, rows)))
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
