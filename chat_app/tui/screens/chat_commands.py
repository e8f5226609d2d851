"""What the slash commands do. Each `do_NAME` takes the argument's text."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any

from chat_app.chat import commands as slash_commands
from chat_app.chat.conversation import Message
from chat_app.config.settings import parameter_values, set_parameter
from chat_app.text.formatting import verbose_timings
from chat_app.text.sanitize import clean_line
from chat_app.tui.screens.chat_part import ChatPart


class ChatCommands(ChatPart):
    """The part of the chat screen that answers commands."""

    async def run_command(self, text: str) -> None:
        """Run a typed command; a mistake is answered with a sentence and the line comes back."""
        try:
            command, argument = slash_commands.parse(text)
            done = getattr(self, command.handler)(argument)
        except Exception as error:  # noqa: BLE001 - told; a command never ends the app
            self._command_failed(text, error)
            return
        if inspect.isawaitable(done):
            # Not awaited here: it may wait for the engine, and keys must not wait with it.
            self.spawn(self._finish_command(text, done))

    async def _finish_command(self, text: str, done: Awaitable[Any]) -> None:
        try:
            await done
        except Exception as error:  # noqa: BLE001 - as above
            self._command_failed(text, error)

    def _command_failed(self, text: str, error: Exception) -> None:
        if isinstance(error, ValueError):
            self.note(str(error), "warning")
        else:
            self.report(error)
        if not self.prompt.text:
            self.prompt.set_text(text)

    def last(self, role: str) -> Message | None:
        """The newest message of a role on the path."""
        return next((one for one in reversed(self.session.path()) if one.role == role), None)

    def last_reply(self) -> Message:
        """Raises ValueError with a sentence where there is none."""
        message = self.last("assistant")
        if message is None:
            raise ValueError("There is no reply yet.")
        return message

    # Chats.

    def do_new(self, _: str) -> None:
        self.spawn(self.session.new_chat())

    def do_history(self, _: str) -> None:
        self.app.show_history()

    def do_search(self, argument: str) -> None:
        self.app.show_history(argument)

    async def do_rename(self, argument: str) -> None:
        if not argument:
            raise ValueError("Usage: /rename TITLE")
        await self.session.saver.set_title(clean_line(argument, 120))
        self.session.view.show_state()

    async def do_save(self, _: str) -> None:
        if await self.session.saver.retry():
            self.note("Every message is on disk." if self.app.settings.save else "This chat is not kept.")
        await self.refresh_views()

    def do_export(self, argument: str) -> None:
        self.app.export_chat(argument)

    def do_quit(self, _: str) -> None:
        self.app.leave()

    # The model and what it is told.

    def do_reset(self, _: str) -> None:
        self.session.reset_cache()

    def do_model(self, argument: str) -> None:
        if argument:
            self.app.use_model(argument)
        else:
            self.app.choose_model()

    def do_system(self, argument: str) -> None:
        if argument:
            self.session.set_system(argument)
        else:
            self.app.show_text("System prompt", self.session.settings.system or "(none)")

    def do_set(self, argument: str) -> None:
        what, _, rest = argument.partition(" ")
        if what == "parameter":
            name, _, value = rest.strip().partition(" ")
            if not name or not value:
                raise ValueError("Usage: /set parameter NAME VALUE")
            self._set_parameter(name.lower(), value.strip())
        elif what == "system":
            self.session.set_system(rest.strip())
        else:
            raise ValueError("Usage: /set parameter NAME VALUE, or /set system TEXT")

    def _set_parameter(self, name: str, value: str) -> None:
        session = self.session
        settings = set_parameter(session.settings, name, value)
        again = settings.ctx_size != session.settings.ctx_size
        session.change_settings(settings)
        if name != "num_ctx":
            self.note(f"{name} is {value}, from the next reply on.")
        elif not again:
            self.note(f"num_ctx is {value} already.")
        elif session.generating:
            self.note("The context changes when this reply is done.")
        elif session.info is None and session.loading is None:
            self.note("num_ctx counts from the next model on.")

    def do_show(self, argument: str) -> None:
        session, info = self.session, self.session.info
        if argument in ("parameters", "parameter"):
            values = parameter_values(session.settings)
            shown = {name: "default" if value is None else value for name, value in values.items()}
            text = "\n".join(f"{name:<16}{value}" for name, value in shown.items())
            self.app.show_text("Parameters", text)
        elif argument == "system":
            self.do_system("")
        elif argument == "template":
            text = (info.template if info else "") or "(this model has no chat template)"
            self.app.show_text("Chat template", text)
        elif argument in ("", "info"):
            if info is None:
                raise ValueError("No model is loaded.")
            rows = {
                "file": info.path,
                "architecture": info.architecture,
                "size": f"{info.file_bytes:,} bytes",
                "context": f"{info.ctx_size:,} tokens",
                "tokenizer": info.tokenizer,
                "backend": f"{info.backend}, {info.threads} threads",
                "template": "yes" if info.has_template else "no: plain completion",
            }
            self.app.show_text(info.name, "\n".join(f"{name:<16}{value}" for name, value in rows.items()))
        else:
            raise ValueError("Usage: /show info, parameters, system or template")

    def do_settings(self, _: str) -> None:
        self.app.action_settings()

    def do_theme(self, argument: str) -> None:
        if not argument:
            self.app.search_themes()
        elif argument in self.app.available_themes:
            self.app.theme = argument
        else:
            raise ValueError(f"There is no theme {argument!r}. /theme alone shows them all.")

    # Replies.

    def do_regen(self, _: str) -> None:
        self.spawn(self.session.branches.regenerate(self.last_reply().id))

    def do_continue(self, _: str) -> None:
        self.spawn(self.session.branches.continue_reply(self.last_reply().id))

    def do_branch(self, argument: str) -> None:
        path = self.session.path()
        back = int(argument) if argument.isdecimal() else 1
        if not 0 < back < len(path):
            raise ValueError("Usage: /branch N, with N smaller than the number of messages")
        self.session.branches.branch(path[-1 - back].id)

    def do_copy(self, argument: str) -> None:
        reply = self.last_reply()
        if not argument:
            self.copy(reply.content)
            return
        what, _, number = argument.partition(" ")
        blocks = slash_commands.code_blocks(reply.content)
        place = int(number) if number.strip().isdecimal() else 1
        if what != "code":
            raise ValueError("Usage: /copy, or /copy code N")
        if not 0 < place <= len(blocks):
            raise ValueError(f"The last reply has {len(blocks)} code blocks.")
        self.copy(blocks[place - 1])

    def do_stats(self, _: str) -> None:
        timings = self.last_reply().x.get("timings")
        if not isinstance(timings, dict):
            raise ValueError("The last reply has no timings.")
        self.app.show_text("The last reply", verbose_timings(timings, self.session.load_s))

    def do_inspect(self, _: str) -> None:
        self.app.inspect(self.last_reply().id)

    async def do_tokens(self, argument: str) -> None:
        path = self.session.path()
        if not argument and not path:
            raise ValueError("Usage: /tokens TEXT")
        await self.app.show_tokens(argument or path[-1].content)

    # Help.

    def do_help(self, _: str) -> None:
        self.app.action_help()

    def do_edit(self, _: str) -> None:
        message = self.last("user")
        if message is None:
            raise ValueError("There is no message to edit yet.")
        self.begin_edit(message.id)
