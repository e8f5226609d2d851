"""Two answers to one question, grown beside each other: in one batch where one model gives both, else one
after the other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

from chat_app.chat.comparing.candidate import Said, add_to
from chat_app.chat.comparing.contender import Contender, let_answer
from chat_app.chat.comparing.difference import Difference, first_difference
from chat_app.chat.comparing.hold import Hold
from chat_app.chat.comparing.sides import Side
from chat_app.chat.conversation import new_message_id, utc_now
from chat_app.chat.open_chat import OpenChat
from chat_app.config.endpoints import model_label
from chat_app.engines.base import Engine, Source
from chat_app.engines.host import EngineHost
from chat_app.engines.sources import source_here
from chat_app.text.errors import describe_error
from chat_app.text.formatting import load_label, memory
from chat_app.text.sanitize import clean_line
from llama_core.errors import Cancelled
from llama_core.events import LoadProgress

NOT_BEGUN = "It was stopped before it began."


class Comparison:
    """The question `question_id` of the open chat, answered by two sides. Nothing is in the chat before one
    is kept. It holds the engine from `run` until `leave`, or until one is kept."""

    def __init__(self, chat: OpenChat, host: EngineHost, question_id: str, sides: Sequence[Side]) -> None:
        self._chat, self._host = chat, host
        self._hold = Hold(chat)
        self._seed = secrets.randbits(32)
        self.question = chat.conversation.get(question_id)
        self.contenders = tuple(
            Contender(side, tuple(chat.conversation.turns(side.settings.system, question_id)))
            for side in sides
        )
        self.kept: dict[int, str] = {}  # the messages that contenders became
        self.ended = False
        self._done = asyncio.Event()

    # Before.

    async def prepare(self) -> None:
        """Find the models, and see whether they have room. Raises ValueError with a sentence."""
        for one in self.contenders:
            if one.side.model:
                one.source = await asyncio.to_thread(self._find, one.side)
            if one.source is None:
                one.model_sha256 = self._chat.model.sha256

    def _find(self, side: Side) -> Source | None:
        """None where it is the chat's own model after all."""
        from chat_app.models.beside import room_beside

        info, name = self._chat.model.info, clean_line(model_label(side.model))
        source = source_here(side.model, side.settings.engines)
        if not isinstance(source, Path):
            return source
        if info is not None and source == info.path:
            return None
        room = room_beside(source, side.settings)
        if not room.fits:
            raise ValueError(
                f"{name} needs {memory(room.needed_bytes)} of memory beside the model that is loaded, "
                f"and {memory(room.free_bytes)} are free. /retry {name} lets it answer in the other's "
                "place."
            )
        return source

    # Growing.

    async def run(self) -> None:
        """Let both answer; what goes wrong is told where its text would be."""
        if not self._hold.take():
            self._end("The model is busy, or none is loaded.")
            return
        try:
            own = [one for one in self.contenders if one.source is None]
            if own:
                await self._tried(own, self._chat.ask(lambda engine: self._let_answer(engine, own)))
            for one in self.contenders:
                if one.source is not None and not self._hold.cancelled():
                    await self._tried([one], self._ask_another(one, one.source))
        finally:
            self._hold.stop()
            self._end(NOT_BEGUN)

    async def _tried(self, asked: Sequence[Contender], work: Awaitable[object]) -> None:
        """A model that fails leaves the other's answer alone."""
        try:
            await work
        except Cancelled:
            pass
        except Exception as error:  # noqa: BLE001 - it is shown where the text would be
            for one in asked:
                if one.candidate is None:
                    one.failure = describe_error(error)
                else:
                    one.candidate.take(error)

    async def _ask_another(self, one: Contender, source: Source) -> None:
        """Another model, opened beside the chat's own for this."""

        def on_progress(progress: LoadProgress) -> None:
            if self._hold.cancelled():
                raise Cancelled
            share = progress.done_bytes / progress.total_bytes if progress.total_bytes else None
            one.state = load_label(progress.stage, share)

        one.state = "loading"
        settings = replace(one.settings, save=False)  # nothing of it is kept on disk
        future = self._host.ask_another(
            source, settings, lambda engine: self._let_answer(engine, [one]), on_progress
        )
        await asyncio.wrap_future(future)

    def _let_answer(self, engine: Engine, contenders: Sequence[Contender]) -> None:
        let_answer(engine, contenders, self.question.id, self._seed, self._hold.cancelled)

    def _end(self, why: str) -> None:
        self.ended = True
        self._done.set()
        for one in self.contenders:
            if one.candidate is None and not one.failure:
                one.failure = why
            one.state = "failed" if one.error else "done"

    def stop(self) -> None:
        """What is being written ends where it is; it can be kept all the same."""
        self._hold.stop()

    # Judging.

    @property
    def answers(self) -> tuple[list[Said], list[Said]]:
        """What both have said so far, thoughts left out."""
        one, other = ([] if each.candidate is None else each.candidate.answer for each in self.contenders)
        return one, other

    def difference(self) -> Difference | None:
        """Where they part; None where they do not, or that is not known: one that was cut off says nothing
        about what would have come."""
        one, other = self.contenders
        return first_difference(*self.answers, whole=(one.whole, other.whole))

    def share(self, place: int, difference: Difference) -> float | None:
        """How probable one side held what the other said where they part; None where it did not tell, or the
        two count in other tokens."""
        ours, theirs = difference.places[place], difference.places[1 - place]
        one, other = self.contenders
        same = one.source == other.source
        if ours is None or theirs is None or not same or difference.lengths[0] != difference.lengths[1]:
            return None
        answers = self.answers
        return answers[place][ours].share_of(answers[1 - place][theirs])

    # Keeping.

    async def keep(self, *places: int) -> None:
        """Make these sides branches of the chat, as far as they have come; the last one is shown. A word to
        the user where that cannot be."""
        chat = self._chat
        self._hold.stop()
        await self._done.wait()
        if self.question.id not in chat.conversation:
            chat.view.note("That comparison belongs to another chat.", "warning")
        else:
            for place in places:
                await self._keep(place)
        self._hold.leave()

    async def _keep(self, place: int) -> None:
        chat, one = self._chat, self.contenders[place]
        if place in self.kept:
            chat.conversation.select_branch(self.kept[place])
            chat.view.show_chat()
        elif one.candidate is None:
            chat.view.note(one.failure, "warning")
        else:
            added = add_to(chat, one.candidate)
            self.kept[place] = added.id
            await chat.saver.append(added)
            chat.view.show_chat()

    def leave(self) -> None:
        """None is kept now; the engine is free."""
        self._hold.leave()

    def save_now(self) -> None:
        """The process ends before a choice: both are kept beside the reply there is, which stays the one that
        is shown."""
        self._hold.stop()
        for place, one in enumerate(self.contenders):
            if one.candidate is None or place in self.kept or not one.candidate.said:
                continue
            made = replace(one.candidate.message, id=new_message_id(), time=utc_now())
            self._chat.conversation.insert(made)
            self._chat.saver.save_now(made)
