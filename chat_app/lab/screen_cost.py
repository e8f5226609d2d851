"""Experiment 11: what the screen costs the engine it feeds.

The same reply is made headless (the app idle beside it) and inside the app, which draws without a terminal.
Both are timed by the engine's own clock, which stands still while the consumer runs: what is left of a
difference is the fight for the interpreter's lock and for the cores.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from chat_app.config.paths import Paths
from chat_app.config.settings import Settings
from chat_app.engines.base import Engine, Prompt
from chat_app.engines.local import LocalEngine
from llama_core.backends.base import Model
from llama_core.checkpoint import Checkpoint
from llama_core.engine.text import TextEngine
from llama_core.events import Event, Finished
from llama_core.profiling.lab.experiment import (
    Case,
    Claim,
    Experiment,
    LabContext,
    NotMeasured,
    Row,
    Timed,
    same,
)
from llama_core.profiling.lab.experiments import texts
from llama_core.profiling.lab.experiments.models import NO_MODEL, default_checkpoint, models
from llama_core.profiling.synthetic import STORIES15M, random_checkpoint
from llama_core.sampling.params import SamplingParams

QUESTION = "Tell me a long story about a lighthouse."
TIMEOUT_S = 120.0
SIZE = (120, 40)
WHY = {
    True: "each of NumPy's calls takes the interpreter's lock again, for which it queues behind the screen",
    False: "a step is one call that holds no lock: the screen takes a core's time, and the lock only between",
}


@dataclass(slots=True)
class LastReply:
    """What the app asked for last, and how it ended."""

    ids: tuple[int, ...] = ()
    prompt: Prompt = field(default_factory=lambda: Prompt((), ()))
    decode_s: float = 0.0


class WatchedEngine:
    """The engine that the app is given: the real one, with an eye on its replies. It stays open when the app
    ends, because the headless side uses it too."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.last = LastReply()
        self.finished = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """The app closes its engine; the experiment needs this one again."""

    def stream(
        self, prompt: Prompt, params: SamplingParams, *, cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        """The engine's own events; the last reply is kept, and `finished` set behind it."""
        for event in self._engine.stream(prompt, params, cancelled=cancelled):
            if isinstance(event, Finished):
                self.last = LastReply(event.ids, prompt, event.timings.predicted_s)
            yield event
        self.finished.set()


class AppThread:
    """The app on a thread of its own, drawn without a terminal."""

    def __init__(self, engine: WatchedEngine, params: SamplingParams, folder: Path) -> None:
        self._engine = engine
        self._settings = Settings(model=str(folder / "model"), params=params, save=False)
        self._paths = Paths(folder, folder, folder, folder)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app: Any = None
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lab-screen", daemon=True)

    def start(self) -> None:
        """Returns when the app takes prompts. Raises RuntimeError with the reason when it does not."""
        self._thread.start()
        if not self._ready.wait(TIMEOUT_S) or self._error is not None:
            raise RuntimeError(f"the app did not start: {self._error}")

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - it is raised again on the thread that waits
            self._error = error
            self._ready.set()

    async def _main(self) -> None:
        from chat_app.tui.app import LlamaChatApp

        Path(self._settings.model).touch()
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        # The app is ended while it may still be drawing; tasks it leaves behind are no news.
        self._loop.set_exception_handler(lambda loop, context: None)
        engine = cast(Engine, self._engine)
        self._app = LlamaChatApp(
            self._settings, open_engine=lambda path, settings, on_progress: engine, paths=self._paths
        )
        async with self._app.run_test(size=SIZE) as pilot:
            while self._app.chat.session.model.info is None:
                await pilot.pause(0.02)
            self._ready.set()
            await self._end.wait()

    def ask(self, text: str) -> None:
        """A new chat with one prompt; returns when the reply is complete and the screen shows it."""
        assert self._loop is not None  # start() has returned
        self._engine.finished.clear()
        asyncio.run_coroutine_threadsafe(self._ask(text), self._loop).result(TIMEOUT_S)
        if not self._engine.finished.wait(TIMEOUT_S):
            raise RuntimeError("the reply did not end")
        asyncio.run_coroutine_threadsafe(self._settled(), self._loop).result(TIMEOUT_S)

    async def _ask(self, text: str) -> None:
        session = self._app.chat.session
        await session.new_chat()
        session.submit(text)

    async def _settled(self) -> None:
        while self._app.chat.session.generating:
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """End the app and wait up to 10 s for its thread."""
        if self._loop is not None and self._end is not None and self._error is None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


def measure_cases(
    name: str, checkpoint: Checkpoint, model: Model, tokens: int, claim: Claim, budget_s: float
) -> Iterator[Case]:
    """Headless before, in the app after."""
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    with tempfile.TemporaryDirectory(prefix="llama-chat-lab-") as folder:
        engine = WatchedEngine(LocalEngine(TextEngine(checkpoint, model, 1024), Path(folder) / "model"))
        app = AppThread(engine, params, Path(folder))
        app.start()
        try:
            app.ask(QUESTION)  # tells what the app asks the engine for
            asked = engine.last

            def headless() -> Timed:
                for _ in engine.stream(asked.prompt, params, cancelled=lambda: False):
                    pass
                return Timed(engine.last.ids, engine.last.decode_s)

            def in_app() -> Timed:
                app.ask(QUESTION)
                return Timed(engine.last.ids, engine.last.decode_s)

            yield Case(
                name=f"{name}: in the app instead of headless",
                before=headless,
                after=in_app,
                claim=claim,
                check=same,
                work=tokens - 1,
                unit="tok",
                headline=True,
                budget_s=budget_s,
                why=WHY[name.endswith("numpy")],
            )
        finally:
            app.stop()


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The same reply in the app and without it, on the tiny model and on the default one."""
    tiny = random_checkpoint(STORIES15M, texts.engine_tokenizer(), seed=15)
    for backend, model in models(context, tiny):
        # Small steps are mostly Python: NumPy's calls queue for the lock that the screen also takes.
        claim = Claim(0.0, 0.9) if backend == "numpy" else Claim(0.8)
        yield from measure_cases(f"stories15M shape, {backend}", tiny, model, 200, claim, context.budget_s)
    checkpoint = default_checkpoint(context)
    if checkpoint is None:
        yield NotMeasured("default model: in the app instead of headless", NO_MODEL)
        return
    for backend, model in models(context, checkpoint):
        name = f"default model, {backend}"
        yield from measure_cases(name, checkpoint, model, 96, Claim(0.8), context.budget_s)


def conclude(context: LabContext, rows: Sequence[Row]) -> list[str]:
    """What the rows say and what they do not."""
    if not any(row.ratio for row in rows):
        return []
    columns, lines = SIZE
    sentence = (
        f"what is measured: the app draws {columns} by {lines} cells through Textual's test driver, which "
        'writes nothing to a terminal; beside "headless" the same app runs idle; both sides are timed by the '
        "engine's own clock, from the first token to the last, which stands still while a token is handed "
        "over and not while the screen is drawn beside it"
    )
    return [sentence]


EXPERIMENT = Experiment(
    number=11,
    name="screen",
    title="The screen's cost: headless against in the app",
    hypothesis="A step that is one compiled call, and one of the default model in NumPy, whose calls are "
    "long, keep at least 0.8 of their rate while the screen draws; a tiny model in NumPy, whose step is "
    "hundreds of small calls, loses a tenth or more to the interpreter's lock",
    refuted_if="the compiled step or the default model falls below 0.8, the tiny NumPy model does not fall "
    "below 0.9, or the tokens differ",
    cases=cases,
    conclude=conclude,
    processes=2,
    whole=True,
)
