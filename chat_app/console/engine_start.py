"""Loading the model for a command that runs without the app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.config.endpoints import Endpoint, find_endpoint
from chat_app.console.streams import ProgressLine, say
from chat_app.models.catalogue import ModelNotFound, catalogue_entry, resolve_model
from chat_app.text.errors import UsageError
from chat_app.text.formatting import load_label

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from chat_app.engines.base import Engine, Source
    from llama_core.engine.text import TextEngine
    from llama_core.events import LoadProgress


def locate_model(settings: Settings) -> Path:
    """The model's file; a model of the catalogue that is not here yet is fetched, with progress on stderr.

    Raises ModelNotFound or DownloadError, each with a sentence that says how to get it, UsageError where the
    name is a server's, EndpointError where it would be one.
    """
    name = settings.model
    if find_endpoint(name, settings.engines) is not None:
        raise UsageError("this needs a model on this machine; -m names a server")
    try:
        return resolve_model(name)
    except ModelNotFound as error:
        if catalogue_entry(error.name) is None:
            raise
    from chat_app.models.download.pull import pull

    say(f"The model {name} is not on this machine yet; fetching it.")
    line = ProgressLine("fetching")
    try:
        return pull(name, line.show)
    finally:
        line.close()


@contextmanager
def started_chat(settings: Settings, *, keeps: bool = False) -> Iterator[tuple[Engine, Source, float]]:
    """(engine of a chat, what it was made of, seconds that took), closed at the end of the block: a model
    here, or a server. keeps: what it computes is kept on disk for the chat's next time. Progress and notices
    go to stderr. Raises what either raises."""
    endpoint = find_endpoint(settings.model, settings.engines)
    if endpoint is None:
        with started_engine(settings) as (text_engine, path, load_s):
            from chat_app.engines.local import LocalEngine, kv_keeper

            keeper = kv_keeper(text_engine, path, settings) if keeps else None
            engine: Engine = LocalEngine(text_engine, path, keeper)
            try:
                yield engine, path, load_s
            finally:
                engine.close()
        return
    for notice in settings.notices:
        say(notice)
    engine, load_s = _connected(endpoint, settings)
    try:
        yield engine, endpoint, load_s
    finally:
        engine.close()


def _connected(endpoint: Endpoint, settings: Settings) -> tuple[Engine, float]:
    from chat_app.engines.sources import open_engine

    started = time.perf_counter()
    line = ProgressLine("connecting")
    try:
        engine = open_engine(endpoint, settings, _reporter(line))
    finally:
        line.close()
    return engine, time.perf_counter() - started


@contextmanager
def started_engine(settings: Settings, *, guessing: bool = True) -> Iterator[tuple[TextEngine, Path, float]]:
    """(engine, model file, seconds it took to load), closed at the end of the block. guessing: whether single
    replies are to come, for which a small model may guess.

    Progress and the settings' notices go to stderr. Raises ModelNotFound, LlamaCoreError, OSError.
    """
    for notice in settings.notices:
        say(notice)
    path = locate_model(settings)
    started = time.perf_counter()
    from chat_app.engines.local import open_text_engine

    line = ProgressLine("loading")
    try:
        engine = open_text_engine(path, settings, _reporter(line), guessing=guessing)
    finally:
        line.close()
    if settings.ctx_size is not None and engine.ctx_size < settings.ctx_size:
        say(f"The context is {engine.ctx_size:,} tokens, the model's own limit, not {settings.ctx_size:,}.")
    try:
        yield engine, path, time.perf_counter() - started
    finally:
        engine.close()


def _reporter(line: ProgressLine) -> Callable[[LoadProgress], None]:
    def report(progress: LoadProgress) -> None:
        if progress.note and progress.done_bytes == 0:
            say(progress.note)
        if progress.stage == "connecting":
            line.say(f"{load_label(progress.stage, None)} ...")
        elif progress.stage == "kernels":
            line.say_once(f"{load_label(progress.stage, None)} (first start only) ...")
        else:
            line.show(progress.done_bytes, progress.total_bytes)

    return report
