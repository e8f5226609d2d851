"""The model that answers: loaded, being loaded, to be loaded anew; and which file it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from chat_app.chat.metrics import PanelMetrics
from chat_app.chat.view import ChatView
from chat_app.config.settings import Settings
from chat_app.engines import news
from chat_app.engines.base import EngineInfo, Source
from chat_app.engines.host import EngineHost
from chat_app.models.speeds import remember_speed


class LoadedModel:
    """What is known of the engine in `host`; `info` is None while no model is loaded, `loading` what is
    being loaded. `spawn` runs a coroutine beside the caller."""

    def __init__(
        self,
        host: EngineHost,
        view: ChatView,
        metrics: PanelMetrics,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
        file_hash: Callable[[Path], str | None],
    ) -> None:
        self._host = host
        self._view = view
        self._metrics = metrics
        self._spawn = spawn
        self._file_hash = file_hash
        self.info: EngineInfo | None = None
        self.loading: Source | None = None
        self.load_s: float | None = None
        self.sha256 = ""  # of the file, for the transcript; empty until it is known
        self.source: Source | None = None  # what is loaded
        self._due: Source | None = None  # what is to be loaded once the reply under way is done
        self._tell_context = False

    def load(self, source: Source, settings: Settings) -> None:
        """Load another model in place of this one. The caller has stopped what ran."""
        self.loading, self.info = source, None
        self._metrics.engine_gone()
        self._metrics.loading()
        self._host.load(source, settings)
        self._view.show_state()

    def want_reload(self) -> None:
        """Another context size was chosen: the model is to be loaded anew, if it is one that lies here."""
        if self.info is not None and self.info.path is not None:
            self._tell_context, self._due = True, self.info.path

    def go_back_to(self, source: Source) -> None:
        """The model that is loaded answers once; this one is to be loaded after it."""
        self._due = source

    def take_reload(self) -> Source | None:
        """What is to be loaded now, told once; None where nothing is."""
        due, self._due = self._due, None
        return due

    def larger_ctx_size(self, tokens: int) -> int:
        """A context for so many tokens, the present one doubled and doubled; 0 where the model has none."""
        if self.info is None or tokens > self.info.max_ctx_size or self.info.ctx_size < 1:
            return 0
        size = self.info.ctx_size
        while size < tokens:
            size *= 2
        return min(size, self.info.max_ctx_size)

    def ready(self, info: EngineInfo, load_s: float, wanted_ctx_size: int | None) -> None:
        """It is loaded. `wanted_ctx_size`: the size of the context that the settings name, in tokens."""
        self.source, self.loading, self._due = self.loading, None, None
        self.info, self.load_s, self.sha256 = info, load_s, ""
        self._metrics.engine_ready(info.backend, info.threads, info.ctx_size, info.untold)
        if info.path is not None:
            self._spawn(self._find_hash(info.path))
        if self._tell_context:
            self._tell_context = False
            fits = wanted_ctx_size in (None, info.ctx_size)
            most = "" if fits else f", not {wanted_ctx_size:,}: this model has no more"
            self._view.note(f"The context holds {info.ctx_size:,} tokens now{most}.")
        self._view.show_state()

    def failed(self, failed: news.LoadFailed, instead: Source | None) -> None:
        """It could not be loaded. instead: what the caller loads now, None for nothing."""
        self.info = self.loading = self.source = None
        self._metrics.engine_gone()
        self._view.show_state()
        self._view.show_load_failure(failed.source, failed.text, instead)

    async def _find_hash(self, path: Path) -> None:
        """Which file it was, for the transcript; computed once for a file and remembered."""
        with contextlib.suppress(OSError):  # a folder of files, or gone already: the name must do
            digest = await asyncio.to_thread(self._file_hash, path)
            if self.info is not None and self.info.path == path:
                self.sha256 = digest or ""

    def answered(self, timings: object) -> None:
        """A reply has ended: what it cost tells how fast this model is here."""
        info = self.info
        if info is not None and info.path is not None and isinstance(timings, Mapping):
            self._spawn(asyncio.to_thread(remember_speed, info.path, info.backend, timings))

    def take(self, item: news.News) -> None:
        """Take in what the host tells of the engine beside replies and the end of a load."""
        match item:
            case news.Loading(progress):
                self._metrics.loading(progress)
                if progress is not None and progress.note and progress.done_bytes == 0:
                    self._view.note(progress.note)
            case news.MemoryMeasured(report):
                self._metrics.memory(report)
            case news.StepsMeasured(times):
                self._metrics.steps(times)
            case news.CacheReset():
                self._metrics.cache_reset()
                self._view.note("KV cache emptied. The next reply computes the whole conversation again.")
            case news.EngineTrouble(text):
                self._view.note(text, "error")

    def watch_steps(self, on: bool) -> None:
        """Whether somebody looks at what the operations of a step take; this model's, and the next one's."""
        self._host.watch_steps(on)

    def reset_cache(self, *, generating: bool) -> None:
        """Empty the KV cache; the transcript stays. The next reply computes the whole prompt again."""
        if self.info is None:
            self._view.note("There is no model loaded, so there is no cache to reset.", "warning")
            return
        if not self.info.capabilities.reset:
            self._view.note(f"{self.info.name} keeps no cache that could be reset from here.", "warning")
            return
        if generating:
            self._view.note("The KV cache is emptied when this reply is done.")
        self._host.reset()
