"""`/preset` on the screen: saved, offered by name, used in another chat, told with the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MakeApp = Callable[..., Any]


async def test_saved_and_used(make_app: MakeApp, drive: Any) -> None:
    async with make_app(system="Be terse.").run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        chat = pilot.app.chat
        for line in ("/set temperature 0", "/preset save cold", "/set temperature 1"):
            chat.run_command(line)
            await user.ready()
        assert chat.session.settings.params.temperature == 1
        chat.prompt.set_text("/preset use c")
        await user.until(lambda: "use cold" in user.screen_text())
        chat.prompt.set_text("")
        chat.run_command("/preset use cold")
        await user.ready()
        assert "counts from the next reply" in user.notices()[-1]
        assert chat.session.settings.params.temperature == 0
        chat.run_command("/preset use old")
        await user.until(lambda: "Did you mean cold?" in user.notices()[-1])
        chat.run_command("/preset")
        await user.until(lambda: "temperature 0.0" in user.screen_text())


async def test_its_model_is_loaded(make_app: MakeApp, drive: Any, model_file: Any) -> None:
    other = model_file.with_name("other-llama.gguf")
    other.write_bytes(b"GGUF")
    async with make_app().run_test(size=(100, 30)) as pilot:
        user = drive(pilot)
        await user.ready()
        chat = pilot.app.chat
        chat.run_command("/preset save first")
        chat.run_command(f"/model {other}")
        await user.until(
            lambda: chat.session.model.info is not None and chat.session.model.info.path == other
        )
        await user.ready()
        chat.run_command("/preset use first")
        await user.until(
            lambda: chat.session.model.info is not None and chat.session.model.info.path == model_file
        )
